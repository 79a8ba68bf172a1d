"""Tables of labels, as spreadsheets, editors and scripts leave them: reading, writing, and the files that they mean."""

import codecs
import csv
import io
import os
import re
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ssl_core.datasets import tables
from ssl_core.datasets.table_names import clean

FILES = [f"img{i:02}.png" for i in range(20)]
COLUMNS = ("file", "label")
cells = st.text(st.characters(exclude_characters="\0\ufffd", exclude_categories=["Cs"]), max_size=8)
one_line = cells.map(lambda cell: "".join(cell.splitlines()))
western = st.text(st.sampled_from("abcxyz ,;|\t'\"0.-"), max_size=5).map(lambda text: f"{text}ö{text}")
END = {"LF": "\n", "CRLF": "\r\n", "CR": "\r"}


@pytest.fixture
def read(tmp_path):
    """Reads a table with this content; the file stays as it is."""

    def run(content, columns=COLUMNS, name="labels.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        try:
            return tables.read(path, columns)
        finally:
            assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())

    return run


def rows(table):
    return [tuple(row.values()) for row in table.rows]


# --- any table, in any form


@settings(deadline=None)
@given(st.lists(st.tuples(cells, cells, cells), max_size=6))
@example([("a.png", "sep=;", '"'), (" ", "\u200b", "\r"), ("é", "e\u0301", "'")])
def test_what_is_written_is_read(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("tables") / "labels.csv"
    columns = (*COLUMNS, "a note, or two")
    tables.write(path, columns, [dict(zip(columns, row, strict=True)) for row in content])
    table = tables.read(path, COLUMNS)
    cleaned = [tuple(map(clean, row)) for row in content]
    assert table.columns == columns and rows(table) == [row for row in cleaned if any(row)]


@settings(deadline=None)
@given(
    st.lists(st.tuples(one_line, one_line), max_size=6),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]),
    st.sampled_from(tables.SEPARATORS),
    st.sampled_from(list(END)),
    st.booleans(),
)
@example([("Ā" * 50, "x")], "utf-16-le", ",", "LF", False)
def test_separator_encoding_and_line_end_change_nothing(tmp_path_factory, content, encoding, separator, end, told):
    path = tmp_path_factory.mktemp("tables") / "labels.csv"
    text = io.StringIO(newline="")
    text.write(f"sep={separator}{END[end]}" * told)
    csv.writer(text, delimiter=separator, lineterminator=END[end]).writerows([(" File", "LABEL "), *content])
    path.write_bytes(text.getvalue().encode(encoding))
    table = tables.read(path, COLUMNS)
    cleaned = [(clean(file), clean(label)) for file, label in content]
    assert table.columns == COLUMNS and rows(table) == [row for row in cleaned if any(row)]


@settings(deadline=None)
@given(st.lists(western, min_size=1, max_size=5), st.sampled_from(tables.SEPARATORS), st.sampled_from(list(END)))
def test_windows_1252_is_read_and_told(tmp_path_factory, labels, separator, end):
    path = tmp_path_factory.mktemp("tables") / "labels.csv"
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, lineterminator=END[end]).writerows([COLUMNS, *(("a.png", label) for label in labels)])
    path.write_bytes(text.getvalue().encode("cp1252"))
    table = tables.read(path, COLUMNS)
    assert [row["label"] for row in table.rows] == [label.strip() for label in labels]
    assert len(table.notes) == 1 and table.notes[0].startswith("read as Windows-1252, such as '") and "ö" in table.notes[0]


@settings(deadline=None, max_examples=300)
@given(
    st.binary(max_size=60),
    st.sampled_from(
        [b"", b"file,label\n", b"FILE;label\r\n", "file,label\n".encode("utf-16"), b"sep=", b'"', b"file,label\n\xf6,"]
    ),
)
@example(b"^\n", b"sep=")
@example(b',,\n";', b"")
def test_any_bytes_are_a_table_or_named(tmp_path_factory, content, head):
    path = tmp_path_factory.mktemp("tables") / "labels.csv"
    path.write_bytes(head + content)
    try:
        table = tables.read(path, COLUMNS)
        assert set(COLUMNS) <= set(table.columns) and all(set(row) == set(table.columns) for row in table.rows)
        assert len(table.lines) == len(table.rows)
    except ValueError as error:
        message = str(error)
        assert message.startswith("labels.csv") and message.isprintable()
    assert path.read_bytes() == head + content


# --- what is read, and what is refused

WORDS = ("None", "NA", "null", "nan", "N/A", "n/a", "-", "TRUE", "#N/A", "")


@pytest.mark.parametrize(
    "content, expected",
    [
        ("file,label\r\na.png,cat,\r\nb.png,dog,,\r\n", [("a.png", "cat"), ("b.png", "dog")]),
        ("file,label,\na.png,cat\n", [("a.png", "cat")]),
        ("file,label,,\na.png,cat,,\n,,,\n\n", [("a.png", "cat")]),
        ("\n\nfile,label\n\na.png,cat", [("a.png", "cat")]),
        (",file,label\n0,a.png,cat\n", [("0", "a.png", "cat")]),  # a script's index
        ('file,label\na.png, "cat, dog"\n', [("a.png", "cat, dog")]),
        ('"file";"label"\r\n"a.png";"he said ""cat"""\r\n', [("a.png", 'he said "cat"')]),
        ("sep=;,,\nfile,label\na.png,cat\n", [("a.png", "cat")]),
        ("file,label\na.png,\u00a0cat\u200b\n", [("a.png", "cat")]),
        ("file,label\n\u202aC:\\a.png,cat\n\x1a", [("C:\\a.png", "cat")]),
        ("\ufeff\ufefffile,label\na.png,cat\n", [("a.png", "cat")]),
        ("label,file\ncat,a.png\n", [("cat", "a.png")]),
        *((f"file,label\na.png,{word}\n", [("a.png", word)]) for word in WORDS),
        ("file,label\na.png,007\nb.png,1e5\n", [("a.png", "007"), ("b.png", "1e5")]),
    ],
)
def test_tables_as_programs_leave_them(read, content, expected):
    table = read(content)
    assert rows(table) == expected and table.notes == ()


def test_lines_are_those_of_the_file(read):
    table = read('sep=;\r\nfile;label\r\n\r\na.png;"two\r\nlines"\r\nb.png;dog\r\n')
    assert table.lines == (4, 6) and table.rows[0]["label"] == "two\r\nlines"


def test_names_and_labels_are_in_one_unicode_form(read):
    assert rows(read(f"file,label\n{unicodedata.normalize('NFD', 'é.png,größe')}\n")) == [("é.png", "größe")]


MUST = "labels.csv: must be a table with the columns file and label"


@pytest.mark.parametrize(
    "content, message",
    [
        ("", f"{MUST} (it is empty)"),
        (" \n\ufeff\n", f"{MUST} (it is empty)"),
        (",,\n,,\n", f"{MUST}, separated by commas (no file, label; its first row is one column: ',,')"),
        ("a.png,cat\nb.png,dog\n", f"{MUST} (no file, label; its first row is: 'a.png, cat')"),
        ("image_name,label\na,b\n", f"{MUST} (no file; its first row is: 'image_name, label')"),
        ("file:label\na:b\n", f"{MUST}, separated by commas (no file, label; its first row is one column: 'file:label')"),
        (b"PK\x03\x04\x14\0", f"{MUST} (it is a spreadsheet or another archive: save it as CSV)"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", f"{MUST} (it is an Excel file: save it as CSV)"),
        ("\ufeff\n<html><table>", f"{MUST} (it is a web page or XML: save it as CSV)"),
        ('[{"file": "a.png", "label": "cat"}]', f"{MUST} (it is JSON: save it as CSV)"),
        ("{\\rtf1\\ansi file,label}", f"{MUST} (it is a document with formats (RTF): save it as plain text)"),
        ("version https://git-lfs.github.com/spec/v1\n", f"{MUST} (it is a pointer of Git LFS: git lfs pull fetches the file)"),
        (b"\x89PNG\r\n\x1a\n\0\0", f"{MUST} (it is neither text in UTF-8 nor in UTF-16)"),
        ("file,label\na.png,c\0t\n", "labels.csv, line 2: must be text (there is a NUL byte)"),
        ("file,label,label\na.png,cat,dog\n", "labels.csv: two columns are called 'label': must have different names"),
        ("Label,file,label\ncat,a.png,dog\n", "labels.csv: two columns are called 'label': must have different names"),
        ("file,label,,\na.png,cat,x,y\n", "labels.csv: two columns are called '': must have different names"),
        ("file,label\na.png,cat\nb.png,cat, dog\n", "labels.csv, line 3: 3 fields, the head has 2"),
        ("file,label\na.png;cat\n", "labels.csv, line 2: 1 field, the head has 2"),
        ("file,x,label\na.png,cat\n", "labels.csv, line 2: 2 fields, the head has 3"),
        ('file,label\na.png,"cat\nb.png,dog\n', "labels.csv, line 2: a quotation mark may be left open, or one too many"),
        (
            'file,"label\na.png,cat\n',
            f"{MUST}, separated by commas (no file, label; its first row is one column: 'file,\"label')",
        ),
        ('"file,label\na.png,cat\n', "labels.csv, line 1: a quotation mark may be left open, or one too many"),
        (f"file,label\na.png,{'x' * 140_000}\n", "labels.csv, line 2: a quotation mark may be left open"),
        ("file,label\na.png,größe\nb.png,кот\n".encode("utf-16")[:-1], f"{MUST} (it is neither text in UTF-8 nor in UTF-16)"),
    ],
)
def test_what_is_no_table_of_labels_is_named(read, content, message):
    with pytest.raises(ValueError) as stop:
        read(content)
    assert str(stop.value).startswith(message)


@pytest.mark.parametrize(
    "content, advice",
    [
        ("filename,class\na.png,cat\n", "rename 'filename' to file, 'class' to label"),
        ("Image_ID;Category\na.png;cat\n", "rename 'Image_ID' to file, 'Category' to label"),
        ("img,y,split\na.png,1,train\n", "rename 'img' to file, 'y' to label"),
        ("Image Index,Finding Labels\na.png,cat\n", "rename 'Image Index' to file, 'Finding Labels' to label"),
        ("file,target\na.png,1\n", "rename 'target' to label"),
        ("a.png,cat\nb.png,dog\n", "put a line with the names of the columns above it"),
        (
            "filename, cat, dog\na.png, 0, 1\n",
            "rename 'filename' to file; write the name of each image's class into one column, label",
        ),
        ("colour,size\nred,1\n", ""),
    ],
)
def test_heads_of_other_programs_are_told_how_to_rename(read, content, advice):
    with pytest.raises(ValueError) as stop:
        read(content)
    assert str(stop.value).startswith(MUST) and str(stop.value).endswith(f"){advice and ': '}{advice}")


@pytest.mark.parametrize("above", ["My labels\n", "My labels,\n,\n", "# made today\n", "label_next\n"])
def test_head_below_a_title_is_found_and_told(read, above):
    line = above.count("\n") + 1
    with pytest.raises(ValueError, match=rf"in its first row \(they are in line {line}: remove the lines above it\)$"):
        read(f"{above}file,label\na.png,cat\n")


@pytest.mark.parametrize(
    "content",
    [
        "file,label,why;\na.png,,far;cat\n",
        '"file,label,why";\n"a.png,,far";cat\n',
        '"file,label"\n"a.png,cat"\n',
        '"file,label";x\n',
    ],
)
def test_labels_beside_a_table_in_one_column_are_told(read, content):
    """Excel shows a table with commas in one column where the decimal sign is a comma; labels are then typed into the next."""
    with pytest.raises(
        ValueError, match=r"^labels.csv: all columns lie in one: divide it \(Excel: Data, Text to Columns\), and move"
    ):
        read(content)


def test_numbers_of_rows_without_a_head_are_told_as_those_of_r(read):
    with pytest.raises(ValueError, match=r"^labels.csv, line 2: 3 fields, the head has 2; row.names=FALSE in R leaves out the"):
        read('"file","label"\n"1","a.png","cat"\n')


@pytest.mark.parametrize(
    "column, values", [("split", "ab"), ("is_train", "10"), ("fold", "01"), ("x", ("train", "test")), ("x", ("Training", "VAL"))]
)
def test_column_that_splits_is_told(tmp_path, column, values):
    (tmp_path / "labels.csv").write_text(f"file,label,{column}\na.png,cat,{values[0]}\nb.png,dog,{values[1]}\n")
    _, notes = tables.read_labels(tmp_path / "labels.csv")
    assert notes == (f"its column '{column}' is not used: images to test with must lie in test/",)


def test_other_columns_are_no_split(tmp_path):
    (tmp_path / "labels.csv").write_text("file,label,similarity,note,split\na.png,cat,0.5,test,\nb.png,dog,0.6,,\n")
    assert tables.read_labels(tmp_path / "labels.csv")[1] == ()


@pytest.mark.parametrize(
    "label, encoding",
    [
        ("кот", "cp1251"),
        ("größe", "cp850"),
        ("größe", "mac-roman"),
        ("ネコ", "shift-jis"),
        ("猫和狗", "gbk"),
        ("γάτα", "cp1253"),
    ],
)
def test_other_encodings_are_refused_not_garbled(read, label, encoding):
    with pytest.raises(ValueError, match=r"^labels.csv, line 3: its encoding is not known: save the table in UTF-8$"):
        read(f"file,label\na.png,cat\nb.png,{label}\n".encode(encoding))


def test_two_encodings_in_one_file_are_refused(read):
    with pytest.raises(ValueError, match=r"^labels.csv, line 2: its encoding is not known"):
        read("file,label\na.png,größe\n".encode() + "b.png,größe\n".encode("cp1252"))


def test_letters_that_were_lost_are_told(read):
    assert read("file,label\na.png,gr\ufffde\n").notes == ("line 2: a letter was lost when it was saved (\ufffd)",)


def test_rows_without_their_last_cells_are_read_and_told(read):
    """Excel leaves out the last separators where sixteen rows have nothing there."""
    table = read("file,label,note\na.png\nb.png,cat\nc.png,dog,blurred\n")
    assert rows(table) == [("a.png", "", ""), ("b.png", "cat", ""), ("c.png", "dog", "blurred")]
    assert table.notes == ("2 rows shorter than the head, the first in line 2: the rest is empty",)


def test_tables_without_a_label_are_told(tmp_path):
    (tmp_path / "labels.csv").write_text("file,label\na.png,\nb.png,\n")
    assert tables.read_labels(tmp_path / "labels.csv") == ([(2, "a.png", ""), (3, "b.png", "")], ("no label in its 2 rows",))
    (tmp_path / "labels.csv").write_text("file,label\n")
    assert tables.read_labels(tmp_path / "labels.csv") == ([], ("no row below the head",))


def test_places_that_are_no_file(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "link.csv").symlink_to("nowhere")
    for name, reason in (("folder", "no file"), ("pipe", "no file"), ("link", "can't be read: No such file or directory")):
        with pytest.raises(ValueError) as stop:
            tables.read(tmp_path / f"{name}.csv", COLUMNS)
        assert str(stop.value).startswith(f"{name}.csv: must be a table") and reason in str(stop.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_file_without_permission_is_named(tmp_path):
    (tmp_path / "labels.csv").write_text("file,label\n")
    (tmp_path / "labels.csv").chmod(0)
    with pytest.raises(ValueError, match=r"^labels.csv: must be a table .* \(it can't be read: Permission denied\)$"):
        tables.read(tmp_path / "labels.csv", COLUMNS)


def test_excel_gets_a_byte_order_mark_only_where_it_needs_one(tmp_path):
    path = tmp_path / "labels.csv"
    tables.write(path, COLUMNS, [{"file": "a.png", "label": None, "other": 1}, {"file": 'b "1".png', "label": 0.5}])
    assert path.read_bytes() == b'file,label\na.png,\n"b ""1"".png",0.5\n'
    tables.write(path, COLUMNS, [{"file": "a.png", "label": "größe"}])
    assert path.read_bytes() == codecs.BOM_UTF8 + "file,label\na.png,größe\n".encode()
    assert os.listdir(tmp_path) == ["labels.csv"]


def test_table_behind_a_link_is_written_there(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "labels.csv").symlink_to("elsewhere/labels.csv")
    tables.write(tmp_path / "labels.csv", COLUMNS, [])
    assert (tmp_path / "labels.csv").is_symlink() and (tmp_path / "elsewhere" / "labels.csv").read_text() == "file,label\n"


# --- the files that names mean


@pytest.mark.parametrize(
    "name, file",
    [
        ("img00.png", "img00.png"),
        ("./img00.png", "img00.png"),
        ("a\\b.png", "a/b.png"),
        (".\\a\\\\b.png", "a/b.png"),
        ("a//x/../b.png", "a/b.png"),
        ("../scans/a/b.png", "a/b.png"),
        ("{folder}/a/b.png", "a/b.png"),
        ("file://{folder}/my%20photo%200.png", "my photo 0.png"),
        ("file://localhost{folder}/img00.png", "img00.png"),
        ("my%20photo%200.png", "my photo 0.png"),
        ("100%25.png", "100%25.png"),  # as written before as decoded
        ("IMG00.PNG", "img00.png"),
        ("A\\B.PNG", "a/b.png"),
        ("é.png", "e\u0301.png"),
        ("grÃ¶ÃŸe.png", "größe.png"),  # UTF-8 that a spreadsheet took for Windows-1252
        ("at 10.00 AM.png", "at 10.00\u202fAM.png"),  # as macOS names screenshots
        ("TWICE.PNG", None),
        ("twice.png", "twice.png"),
        ("img00", None),
        ("../img00.png", None),
        ("/img00.png", None),
        ("scans/img00.png", None),
        ("", None),
        (".", None),
        ("..", None),
    ],
)
def test_names_are_matched_in_any_style(tmp_path, name, file):
    folder = tmp_path / "scans"
    files = ["img00.png", "a/b.png", "my photo 0.png", "100%25.png", "100%.png", "e\u0301.png", "größe.png"]
    files += ["at 10.00\u202fAM.png", "twice.png", "Twice.png"]
    name = name.format(folder=folder)
    assert tables.match([name], files, folder) == ({} if file is None else {name: file})


@pytest.mark.parametrize(
    "name",
    ["C:\\Users\\me\\scans\\a.png", "c:/users/me/Scans/a.png", "file:///C:/Users/me/scans/a.png", "/mnt/c/Users/me/scans/a.png"],
)
def test_windows_paths_in_its_linux(name):
    assert tables.match([name], ["a.png"], Path("/mnt/c/Users/me/scans")) == {name: "a.png"}


def test_names_in_the_root_of_the_disk():
    assert tables.match(["/a.png", "c:\\b.png", "B.PNG"], ["a.png", "b.png"], Path("/")) == {"/a.png": "a.png", "B.PNG": "b.png"}


def test_two_names_may_mean_one_file(tmp_path):
    names = ["a.png", "A.PNG", "./a.png"]
    assert tables.match(names, ["a.png"], tmp_path) == dict.fromkeys(names, "a.png")


@settings(deadline=None)
@given(st.lists(cells.filter(bool), unique=True, max_size=8), st.lists(cells, max_size=8))
def test_names_as_written_are_always_found(files, others):
    found = tables.match([*files, *others], files, Path("/data/scans"))
    assert all(found[file] == file for file in files) and set(found.values()) <= set(files)


@pytest.mark.parametrize(
    "change, example, advice",
    [
        (lambda name: name[:-4], "img00", "add the ending"),
        (lambda name: name[:-4] + ".jpg", "img00.jpg", "write '.png' for '.jpg'"),
        (lambda name: f"scans/{name}", "scans/img00.png", "remove 'scans/'"),
        (lambda name: f"C:\\Users\\me\\{name}", "C:\\Users\\me\\img00.png", "remove 'C:\\Users\\me\\'"),
        (lambda name: f"/data/upload/1/ab12-{name}", "/data/upload/1/ab12-img00.png", "remove '/data/upload/1/ab12-'"),
        (lambda name: f"img{int(name[3:5])}.png", "img0.png", "write the zeros of its number"),
        (lambda name: f"img{int(name[3:5])}", "img0", "write the zeros of its number, add the ending"),
        (lambda name: f"x/{name[:-4].upper()}.JPG", "x/IMG00.JPG", "remove 'x/', write '.png' for '.JPG'"),
        (lambda name: str(int(name[3:5])), "0", "must be the file's name, not its number"),
    ],
)
def test_names_that_all_differ_say_how(change, example, advice):
    names = list(map(change, FILES))
    expected = f"none of the 20 files named in labels.csv is there: the first is '{example}'; there is 'img00.png': {advice}"
    assert tables.difference(names, FILES, "labels.csv") == expected
    assert advice not in tables.difference([f"{name[:1]}?{name[1:]}" for name in ["other", "names"]], FILES, "labels.csv")


def test_names_that_lack_the_folder_say_so():
    files = [f"a/{name}" for name in FILES]
    assert tables.difference(FILES, files, "t.csv").endswith("'img00.png'; there is 'a/img00.png': add the folder 'a/'")
    names = [f"b/{name}" for name in FILES]
    assert tables.difference(names, files, "t.csv").endswith("'b/img00.png'; there is 'a/img00.png': write 'a/' for 'b/'")


def test_name_that_two_folders_have_is_told_with_both():
    files = [f"{folder}/{name}" for folder in "ab" for name in FILES]
    assert tables.difference(FILES, files, "t.csv").endswith("'img00.png'; there are 'a/img00.png' and 'b/img00.png'")


def test_difference_takes_what_most_names_show():
    names = ["readme", "scans/img03.png", "scans/img04.png"]
    expected = "none of the 3 files named in t.csv is there: one is 'scans/img03.png'; there is 'img03.png': remove 'scans/'"
    assert tables.difference(names, FILES, "t.csv") == expected


def test_difference_of_few():
    only = "the only file named in t.csv is not there: it is 'x'"
    assert tables.difference(["x"], FILES, "t.csv") == f"{only}; there is 'img00.png'"
    assert tables.difference(["x"], [], "t.csv") == f"{only}; there is no image"
    assert tables.difference([], FILES, "t.csv") == ""


@pytest.mark.slow
def test_sixty_thousand_names_take_seconds(tmp_path):
    files = [f"a/{i:05}.png" for i in range(60_000)]
    start = time.process_time()
    assert len(tables.match([f"A\\{i:05}.PNG" for i in range(60_000)], files, tmp_path)) == 60_000
    tables.difference([f"{i}.jpg" for i in range(60_000)], files, "labels.csv")
    assert time.process_time() - start < 20  # 2 s; all pairs would take hours


# --- labels that look alike, and files that are nearly the table


@pytest.mark.parametrize(
    "labels",
    [
        ("1", "1.0"), ("007", "7"), ("1", "1,0"), ("1", "１"), ("100000", "1E+05"), ("Cat", "cat"), ("hot dog", "hot  dog"),
        ("hot dog", "hot_dog"), ("hot-dog", "hotdog"), ("é", "e\u0301"), ("größe", "grÃ¶ÃŸe"), ("straße", "STRASSE"),
        ("a\u200bb", "ab"), ("None", "none"), ("cat", "саt"),
    ],
)  # fmt: skip
def test_look_alikes_are_told(labels):
    first, second = sorted(labels)
    assert tables.look_alikes([*labels, "other", ""]) == [
        f"classes {tables.quoted(first)} and {tables.quoted(second)} look alike"
    ]


@pytest.mark.parametrize("label", ["?", "??", "unlabelled", "Unlabeled", "no label", "TODO", "#N/A", "#REF!", "=A2"])
def test_words_for_no_label_are_told(label):
    told = f"class '{label}' seems to be no label: if so, leave its images without one"
    assert tables.look_alikes(["cat", label]) == [told]


@pytest.mark.parametrize("joined", ["cat, dog", "dog;cat", "cat|dog", "cat/dog"])
def test_several_labels_in_one_cell_are_told(joined):
    parts = " and ".join(f"'{part}'" for part in re.split("[^a-z]+", joined))
    assert tables.look_alikes(["cat", "dog", joined]) == [f"class '{joined}' is another than {parts}: each image has one class"]
    assert not tables.look_alikes(["cat", joined])


@pytest.mark.parametrize("labels", [("1", "11"), ("1-2", "12"), ("-1", "1"), ("-", "_"), ("cat", "dog"), ("0", "O")])
def test_different_labels_are_left_alone(labels):
    assert tables.look_alikes([*labels, *labels]) == []


@given(st.lists(cells))
def test_any_label_has_an_appearance(labels):
    for sentence in tables.look_alikes(labels):
        assert sentence.isprintable() and sentence.startswith(("class ", "classes "))


@pytest.mark.parametrize(
    "name, advice",
    [
        ("Labels.csv", "rename it to labels.csv"),
        ("labels.CSV", "rename it to labels.csv"),
        ("label.csv", "rename it to labels.csv"),
        ("labels.csv.txt", "rename it to labels.csv"),
        ("labels (1).csv", "rename it to labels.csv"),
        ("labels.tsv", "rename it to labels.csv"),
        ("labels.txt", "rename it to labels.csv"),
        ("labels.xlsx", "save it as labels.csv"),
        ("LABELS.ODS", "save it as labels.csv"),
        ("labels.json", "save it as labels.csv, a table with commas"),
        ("labels.csv.gz", "save it as labels.csv, a table with commas"),
    ],
)
def test_files_that_are_nearly_the_table_are_told(tmp_path, name, advice):
    (tmp_path / name).write_text("file,label\n")
    assert tables.nearly(tmp_path) == f"{name} is not read: {advice}"
    (tmp_path / "labels.csv").write_text("file,label\n")
    assert tables.nearly(tmp_path) == ""


def test_spreadsheet_that_was_saved_later_is_told(tmp_path):
    for seconds, name in enumerate(["labels.csv", "labels.xlsx"]):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1e9 + seconds, 1e9 + seconds))
    assert tables.nearly(tmp_path) == "labels.xlsx is not read: save it as labels.csv"
    os.utime(tmp_path / "labels.csv")
    assert tables.nearly(tmp_path) == ""
    (tmp_path / ".~lock.labels.csv#").touch()
    assert tables.nearly(tmp_path).startswith("labels.csv is open in LibreOffice: save and close it there")


def test_other_files_are_no_tables(tmp_path):
    for name in ("label_next.csv", "labels.png", "my labels.csv", "skipped.csv", "~$labels.xlsx", "labels_old.csv"):
        (tmp_path / name).touch()
    assert tables.nearly(tmp_path) == "" and tables.nearly(tmp_path / "nowhere") == ""
