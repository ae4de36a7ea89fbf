"""Text files as people have them: separators, headers, encodings, and lines that do not fit."""

import gzip
import os
import threading

import numpy as np
import pandas as pd
import pytest

from kernreg.datasets import load
from kernreg.datasets.delimited import read_delimited
from kernreg.exceptions import InvalidInputError

ROWS = 12
rng = np.random.default_rng(21)
FRAME = pd.DataFrame(
    {
        "length": rng.normal(size=ROWS).round(3) - 5,
        "wood": np.resize(["oak", "ash", "elm"], ROWS),
        "mass": rng.normal(size=ROWS).round(3),
    }
)
LINES = FRAME.to_csv(index=False).splitlines()


def written(folder, lines, name="t.csv"):
    text = lines if isinstance(lines, str) else "\n".join(lines) + "\n"
    (folder / name).write_text(text)
    return folder / name


def is_frame(path, note=None, **options):
    """The table of the file is FRAME, and a note says what was guessed."""
    data = load(path, **options)
    assert data.feature_names == ("length", "wood=ash", "wood=elm", "wood=oak")
    assert np.array_equal(data.X[:, 0], FRAME["length"])
    assert np.array_equal(data.X[:, 3], FRAME["wood"] == "oak")
    assert np.array_equal(data.y, FRAME["mass"])
    if note is not None:
        assert note in data.notes[0]
    return True


def refusal(path, **options):
    with pytest.raises(InvalidInputError) as caught:
        load(path, **options)
    assert str(path) in str(caught.value)
    return str(caught.value)


# Headers


def test_header_shorter_than_the_lines(tmp_path):
    path = written(tmp_path, ["width,price"] + [f"{i * 3},{i + 7},{i % 4}" for i in range(9)])
    message = refusal(path)
    assert "2 names (width, price) separated by commas" in message
    assert "line 2 and 8 other lines have 3 values" in message


@pytest.mark.parametrize("start", [0, 1])
def test_numbered_rows_have_names(start, tmp_path):
    """As R's write.table and pandas with index_label=False write them."""
    lines = [LINES[0]] + [f"{i},{line}" for i, line in enumerate(LINES[1:], start=start)]
    assert is_frame(written(tmp_path, lines), "names the rows")


def test_row_names_of_text(tmp_path):
    lines = [LINES[0]] + [f"plank {i},{line}" for i, line in enumerate(LINES[1:])]
    path = written(tmp_path, lines)
    assert is_frame(path, "names the rows")
    assert load(path, id_name="Unnamed: 0").ids[3] == "plank 3"


@pytest.mark.parametrize(
    "names",
    [
        [f"plank {i // 2}" for i in range(ROWS)],
        list(range(2, ROWS + 2)),
        list(range(ROWS))[::-1],
        [f"Lyon{i}, FR" for i in range(ROWS)],
    ],
    ids=["repeated", "from two", "backwards", "comma"],
)
def test_what_is_no_name_of_a_row(names, tmp_path):
    lines = [LINES[0]] + [f"{n},{line}" for n, line in zip(names, LINES[1:], strict=True)]
    assert "the header has 3 names (length, wood, mass)" in refusal(written(tmp_path, lines))


def test_unquoted_commas(tmp_path):
    lines = ["city,size,y"] + [f"C{i}, FR,{i},{i % 3}" for i in range(9)]
    assert "3 names (city, size, y)" in refusal(written(tmp_path, lines))


def test_lines_that_end_with_a_separator(tmp_path):
    message = refusal(written(tmp_path, [LINES[0]] + [f"{line}," for line in LINES[1:]]))
    assert "every line but the header ends with a separator" in message
    # With one in the header as well, there is an empty column, which has no name.
    assert is_frame(written(tmp_path, [f"{line}," for line in LINES]), "left out Unnamed: 3")


@pytest.mark.parametrize("line", [2, 5, ROWS + 1])
@pytest.mark.parametrize(("change", "count"), [(",7", 4), (None, 2)])
def test_one_line_of_another_length(line, change, count, tmp_path):
    lines = list(LINES)
    lines[line - 1] = lines[line - 1] + change if change else lines[line - 1].rsplit(",", 1)[0]
    message = refusal(written(tmp_path, lines))
    assert f"3 names (length, wood, mass) separated by commas, but line {line} has {count}" in (
        message
    )


def test_lines_are_counted_as_an_editor_counts_them(tmp_path):
    lines = ["# by hand", *LINES[:4], "", '1.5,"red\noak",2', *LINES[4:7], "1,2,3,4", *LINES[7:]]
    assert "line 12 has 4 values." in refusal(written(tmp_path, lines))
    many = [LINES[0], *LINES[1:] * 20, *["1,2"] * 5]
    message = refusal(written(tmp_path, many))
    assert "line 242 has 2, line 243 has 2, line 244 has 2 values and 2 more lines" in message


@pytest.mark.parametrize(
    "first", ["12.5,oak,3", "7,4,9", "0,0,1", "-1,x,y", "1e3,a,b", "3,2,1", "2,4,7"]
)
def test_first_line_of_data(first, tmp_path):
    message = refusal(written(tmp_path, [first, *LINES[1:]]))
    assert "the first line holds numbers" in message
    assert "--no-header" in message


def test_names_that_are_numbered(tmp_path):
    """Pixels, and years."""
    lines = ["0,1,2"] + [f"{i},{i % 3},{i * 0.3}" for i in range(8)]
    data = load(written(tmp_path, lines))
    assert data.feature_names == ("0", "1")
    assert "say --no-header if the first line holds data" in data.notes[0]
    lines[0] = "1990,2000,2010"
    assert load(written(tmp_path, lines)).target_name == "2010"
    lines[0] = "area,2000,price"
    assert refusal(written(tmp_path, lines)).count("2000") == 1


def test_no_header(tmp_path):
    data = load(written(tmp_path, LINES[1:]), header=False)
    assert data.feature_names == ("0", "1=ash", "1=elm", "1=oak")
    assert data.target_name == "2"
    assert np.array_equal(data.y, FRAME["mass"])
    data = load(written(tmp_path, LINES[1:]), "0", header=False, drop=["1"])
    assert data.feature_names == ("2",)
    assert np.array_equal(data.y, FRAME["length"])


def test_names_that_occur_twice(tmp_path):
    path = written(tmp_path, ["a,b,a,y"] + [f"{i},{i * i},{i},{i / 7}" for i in range(8)])
    assert "column names occur twice: a. Rename them, or leave them out by --drop a" in (
        refusal(path)
    )
    assert load(path, drop=["a"]).feature_names == ("b",)


# Separators


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt", "T.CSV", "t.Tsv"])
def test_separators_under_any_name(separator, name, tmp_path):
    FRAME.to_csv(tmp_path / name, sep=separator, index=False)
    words = {",": "commas", ";": "semicolons", "|": "bars"}
    unusual = name.lower().endswith("tsv") and separator != "\t"
    note = f"its columns are separated by {words[separator]}" if unusual else None
    assert is_frame(tmp_path / name, note)


@pytest.mark.parametrize("gap", [" ", "    "])
def test_spaces(gap, tmp_path):
    lines = [f"  {line.replace(',', gap)} " for line in LINES]
    assert is_frame(written(tmp_path, lines, "t.txt"), "separated by spaces")
    lines[2] = lines[2].replace("ash", '"ash"')
    assert is_frame(written(tmp_path, lines, "t.txt"))


def test_commas_in_names_but_not_between_values(tmp_path):
    names = ["length, m", "wood, kind", "mass, kg"]
    lines = [line.replace(",", ";") for line in LINES]
    lines[0] = ";".join(names)
    data = load(written(tmp_path, lines))
    assert (data.feature_names[0], data.target_name) == ("length, m", "mass, kg")
    assert load(tmp_path / "t.csv", drop=["wood, kind"]).feature_names == ("length, m",)
    assert load(tmp_path / "t.csv", target="length, m").feature_names[-1] == "mass, kg"


def test_a_line_that_names_the_separator(tmp_path):
    lines = ["sep=;", *(line.replace(",", ";") for line in LINES)]
    assert is_frame(written(tmp_path, lines))


# Comments and blank lines


def test_comments(tmp_path):
    note = "left out 2 lines that start with '#'"
    assert is_frame(written(tmp_path, ["# saw 3", "", "#x", *LINES]), note)
    assert is_frame(written(tmp_path, ["", *LINES[:4], "", "", *LINES[4:], ""]))


def test_values_that_start_with_a_hash_are_values(tmp_path):
    lines = ["colour,a,y"] + [f"#{i % 2}0,{i},{i * 0.3}" for i in range(9)]
    assert load(written(tmp_path, lines)).feature_names == ("colour=#00", "colour=#10", "a")


def test_names_behind_a_hash(tmp_path):
    table = rng.normal(size=(8, 3))
    np.savetxt(tmp_path / "t.txt", table, header="saw\np q y")
    data = load(tmp_path / "t.txt")
    assert data.feature_names == ("p", "q")
    assert data.target_name == "y"
    assert np.array_equal(data.X, table[:, :2])
    assert "the names of its columns stand behind '#'" in data.notes[0]
    assert load(tmp_path / "t.txt", header=False).feature_names == ("0", "1")
    np.savetxt(tmp_path / "t.txt", table, delimiter=",", header="p,q,y")
    assert np.array_equal(load(tmp_path / "t.txt").y, table[:, 2])


# Values


def test_spaces_around_text_do_not_matter(tmp_path):
    lines = [line.replace("oak", " oak").replace("ash", "ash  ") for line in LINES]
    assert is_frame(written(tmp_path, lines))
    target = [f"{i},{kind}" for i, kind in enumerate(np.resize(["yes", "yes ", " no"], 9))]
    assert load(written(tmp_path, ["a,y", *target])).classes.tolist() == ["no", "yes"]


def test_values_across_lines(tmp_path):
    frame = FRAME.assign(wood=FRAME["wood"].replace("oak", 'red\n"oak", old'))
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert 'wood=red\n"oak", old' in load(tmp_path / "t.csv").feature_names
    lines = list(LINES)
    lines[ROWS] = lines[ROWS].replace("elm", '"elm')
    assert "quotation mark that is never closed" in refusal(written(tmp_path, lines))


@pytest.mark.parametrize("rows", [3_000, 60_000])
def test_rare_values_far_down_have_the_same_answer_in_files_of_all_lengths(rows, tmp_path):
    """pandas types a column piece by piece."""
    code = rng.integers(1, 9, rows).astype(str)
    code[-20:] = "X"
    frame = pd.DataFrame({"code": code, "z": rng.normal(size=rows), "y": rng.normal(size=rows)})
    frame.to_csv(tmp_path / "t.csv", index=False)
    words = f"is numeric except for 20 of {rows:,} values, such as 'X'"
    for target, what in (("y", "Column"), ("code", "The target")):
        with pytest.raises(InvalidInputError, match=f"{what} 'code' {words}"):
            load(tmp_path / "t.csv", target)
    assert len(load(tmp_path / "t.csv", "code", "classification").classes) == 9


def test_wide_lines(tmp_path):
    """Longer than the blocks of the parser."""
    long = "ash " * 1_500_000
    lines = [LINES[0], *(line.replace("ash", long) for line in LINES[1:6])]
    frame, _ = read_delimited(written(tmp_path, lines))
    assert frame["wood"].tolist() == ["oak", long, "elm", "oak", long]


# Encodings and compression


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"],
)
def test_encodings(encoding, tmp_path):
    text = "\n".join(LINES).replace("length", "Länge").replace("ash", "frêne")
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    data = load(tmp_path / "t.csv")
    assert data.feature_names == ("Länge", "wood=elm", "wood=frêne", "wood=oak")
    if encoding in ("utf-16", "utf-32"):
        assert encoding.upper() in data.notes[0]
    if encoding in ("cp1252", "latin-1"):
        assert "not UTF-8 and was read as Windows-1252" in data.notes[0]


def test_text_that_is_no_utf16(tmp_path):
    (tmp_path / "t.csv").write_bytes("a,y\n1,2\n".encode("utf-16") + b"\x00\xd8")
    assert "cannot be read as UTF-16" in refusal(tmp_path / "t.csv")


def test_compression_is_seen_in_the_file(tmp_path):
    (tmp_path / "t.csv").write_bytes(gzip.compress("\n".join(LINES).encode()))
    assert is_frame(tmp_path / "t.csv")
    (tmp_path / "T.CSV.GZ").write_bytes(gzip.compress("\n".join(LINES).encode()))
    assert is_frame(tmp_path / "T.CSV.GZ")


@pytest.mark.parametrize(
    ("magic", "words"),
    [(b"PK\x03\x04", "ZIP archive"), (b"PAR1", "Parquet file"), (b"\x93NUMPY", "NPY file")],
)
def test_other_formats_with_the_name_of_text(magic, words, tmp_path):
    (tmp_path / "t.csv").write_bytes(magic + bytes(30))
    assert words in refusal(tmp_path / "t.csv")


def test_pipes(tmp_path):
    """A pipe has no size, and can be read only once."""
    for name in ("pipe.csv", "pipe"):
        os.mkfifo(tmp_path / name)
        writer = threading.Thread(target=written, args=(tmp_path, LINES, name))
        writer.start()
        assert is_frame(tmp_path / name)
        writer.join()
