"""Networks typed on the command line: code, but only the code of networks."""

import pytest

from kernreg import nn
from kernreg.cli.networks import looks_like_network, parse_network
from kernreg.exceptions import NetworkError


@pytest.mark.parametrize(
    "network",
    [
        nn.mlp(depth=3, activation=nn.Erf(), W_std=1.5, b_std=0.1),
        nn.serial(nn.Dense(2**0.5, 0.3), nn.LeakyRelu(0.1), nn.Dense()),
        nn.serial(nn.Dense(), nn.residual(nn.serial(nn.Relu(), nn.Dense(1.2))), nn.LayerNorm()),
        nn.serial(nn.Dense(), nn.Polynomial((0.0, 1.0, -0.5)), nn.Dense()),
        nn.serial(
            nn.Dense(),
            nn.parallel(nn.serial(nn.Relu(), nn.Dense()), nn.Identity(), merge="concat"),
            nn.Dense(),
        ),
        nn.serial(nn.Dense(), nn.repeat(nn.serial(nn.Gelu(), nn.Dense(1.4)), 7)),
    ],
    ids=repr,
)
def test_the_printed_form_is_read_back(network):
    assert parse_network(repr(network)) == network
    assert parse_network(f"  {nn.to_json(network)}\n") == network


def test_prefix_and_arithmetic():
    expected = nn.serial(nn.Dense(2**0.5), nn.Relu(), nn.Dense(0.25, b_std=3.0))
    text = "nn.serial(nn.Dense(2**0.5), Relu(), Dense(1 / (2 + 2), b_std=-(-6) * 0.5))"
    assert parse_network(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a network"),
        ("mlp(", "is not a network: .*Write it as code"),
        ("mlp(depth=)", "is not a network"),
        ("3", "'3' is 3, not a network such as mlp"),
        ("mlp", r"^'mlp' lacks its parentheses: write mlp\(...\)\.$"),
        ("mlp(activation=Erf)", "'Erf' lacks its parentheses"),
        ("Oracle()", r"^Unknown layer 'Oracle'; known are ABRelu, .*, wide_resnet\.$"),
        ("oracle", "Unknown layer 'oracle'; known are ABRelu"),
        ("mlpp(depth=2)", r"wide_resnet\. Did you mean 'mlp'\?$"),
        ("serial(Dense(), ReLU(), Dense())", r"wide_resnet\. Did you mean 'Relu'\?$"),
        (
            "mlp(depht=2)",
            r"^mlp\(depht=2\): got an unexpected keyword argument 'depht'; mlp takes depth, "
            r"activation, W_std, b_std\. Did you mean 'depth'\?$",
        ),
        ("mlp(2, depth=3)", r"multiple values for argument 'depth'; mlp takes .*, b_std\.$"),
        ("Relu(3)", "too many positional arguments; Relu takes no arguments"),
        ("mlp(depth=1.5)", "depth"),
        ("mlp(depth=-1)", "depth"),
        ("Dense(W_std='wide')", "W_std must be a finite number"),
        ("Dense(W_std=1/0)", "cannot be computed"),
        ("Dense(W_std=1e999)", "W_std must be a finite number"),
        ("Dense(W_std=10.0**400)", "cannot be computed"),
        ("Dense(W_std=1 if True else 2)", "not allowed"),
        ("Dense(W_std='a' + 'b')", "is not a number"),
        ("Dense(W_std=True)", "W_std|not a number"),
        ("Elementwise(3)", "must be a callable"),
        ("Elementwise('os.system')", "must be a callable"),
        ("serial(1)", "must be a layer"),
        ("serial(*[Dense()])", "not allowed"),
        ("repeat(Dense(), 2, 3)", r"too many positional arguments; repeat takes block, n\.$"),
        ("from_json('{}')", "Unknown layer 'from_json'"),
        ("Layer()", r"Unknown layer 'Layer'; (?!.* Layer,)(?!.* Nonlinearity,)"),
        ("{", "Not the JSON text"),
        ('{"a": 1}', "A layer in JSON names its class in the entry 'layer'"),
        ('{"layer": "Oracle"}', "Oracle"),
    ],
)
def test_what_is_no_network(text, message):
    with pytest.raises(NetworkError, match=message):
        parse_network(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "nn.__class__()",
        "Dense.__init__.__globals__()",
        "(lambda: 1)()",
        "[Dense() for _ in range(3)]",
        "exec('raise SystemExit')",
        "open('/etc/passwd')",
        "serial(Dense(), (x := Relu()))",
        "Dense(W_std=f'{1}')",
    ],
)
def test_code_that_is_not_a_network_is_not_run(text):
    with pytest.raises(NetworkError):
        parse_network(text)


@pytest.mark.parametrize("text", ["9**9**9**9", "Dense(9**9**9)", "(" * 3000, "-" * 5000 + "1"])
def test_hostile_arithmetic_ends(text):
    with pytest.raises(NetworkError):
        parse_network(text)


def test_arguments_are_never_dropped():
    """A dictionary is not network code; to leave it out would fit another network."""
    with pytest.raises(NetworkError, match="not allowed"):
        parse_network("mlp(**{'depth': 1})")


@pytest.mark.parametrize("depth", ["2**64", "10**7", "10000000", "1000 * 1000 * 1000"])
def test_the_bound_holds_for_results_too(depth):
    """Every layer is walked once in Python: a depth beyond the stated bound never ends."""
    assert parse_network("mlp(depth=10**4)") == nn.mlp(depth=10_000)
    with pytest.raises(NetworkError, match="1e6"):
        parse_network(f"mlp(depth={depth})")


def test_json_file(tmp_path):
    network = nn.mlp(depth=2)
    (tmp_path / "net.json").write_text(nn.to_json(network))
    assert parse_network(str(tmp_path / "net.json")) == network
    with pytest.raises(NetworkError):
        parse_network(str(tmp_path / "other.json"))


def test_files_and_sets_are_no_networks(tmp_path):
    odd = tmp_path / "table (copy).csv"
    odd.write_text("a,y\n1,2\n")
    assert not looks_like_network(str(odd))
    assert not looks_like_network("iris")
    assert looks_like_network("mlp(depth=2)")
    assert looks_like_network('{"layer": "Dense"}')


@pytest.mark.parametrize("fn", ["builtins:print", "sys:exit", "no_such_module:f"])
@pytest.mark.parametrize("in_a_file", [False, True])
def test_json_does_not_name_functions(fn, in_a_file, tmp_path):
    """Whoever wrote the file would choose what is called."""
    text = '{"layer": "Elementwise", "fn": {"callable": "' + fn + '"}}'
    if in_a_file:
        (tmp_path / "net.json").write_text(text)
        text = str(tmp_path / "net.json")
    with pytest.raises(NetworkError, match=f"uses the Python function '{fn}'.*trusted=True"):
        parse_network(text)


@pytest.mark.parametrize(
    "text",
    [
        "mlp(depth=10**6)",
        "repeat(repeat(mlp(depth=100), 100), 100)",
        "serial(Dense(), Monomial(10**6), Dense())",
        "serial(" * 101 + "Dense()" + ")" * 101,
        '{"layer": "Mlp", "depth": 1000000}',
        '{"layer": "Repeat", "n": 1e12, "block": {"layer": "Dense"}}',
    ],
    ids=lambda text: text[:40],
)
def test_networks_without_end(text):
    with pytest.raises(NetworkError, match=r"at most|nested"):
        parse_network(text)


def test_as_many_layers_as_are_promised():
    assert parse_network("mlp(depth=10_000)").depth == 10_000
