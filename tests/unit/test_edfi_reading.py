"""The parts of the Ed-Fi import that need no database: the reader, the words, the forms of addresses."""

import tracemalloc
from encodings.aliases import aliases
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gql_server.errors import ImportFailed
from gql_server.services.imports.edfi.words import grade, is_guardian
from gql_server.services.imports.edfi.xml import read_records
from gql_server.services.imports.households import DisjointSets
from gql_server.services.imports.values import email_address, phone_number

STUDENT = frozenset({"Student"})


def file(tmp_path: Path, text: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "Student.xml"
    path.write_bytes(text.encode(encoding))
    return path


def test_records_come_one_by_one_with_their_lines(tmp_path: Path) -> None:
    """Records of the tags asked for come in order, namespaces stripped, comments and the rest ignored."""
    path = file(
        tmp_path,
        '<e:InterchangeStudent xmlns:e="http://ed-fi.org/5.2.0">\n<e:Student id="A">\n'
        "<e:Id> 1<!-- x --> </e:Id>\n"
        "</e:Student>\n<e:Other><e:Student/></e:Other>\n<e:Student><e:Id>2 &amp; 3</e:Id></e:Student>\n"
        "</e:InterchangeStudent>",
    )
    first, second = read_records(path, STUDENT)
    assert (first.line, first.attributes, first.text("Id")) == (2, {"id": "A"}, "1")
    assert (second.line, second.text("Id"), second.text("Name"), second.text("Id", "x")) == (
        6,
        "2 & 3",
        None,
        None,
    )


def test_a_record_is_whole_wherever_the_chunks_end(tmp_path: Path) -> None:
    """Records of every length around the size of a chunk keep their text."""
    lengths = range(65_200, 65_600, 37)
    records = "".join(f"<Student><Id>{'é' * (n // 2)}</Id></Student>\n" for n in lengths)
    path = file(tmp_path, f"<InterchangeStudent>{records}</InterchangeStudent>")
    read = [record.required("Id") for record in read_records(path, STUDENT)]
    assert [len(text) for text in read] == [n // 2 for n in lengths]


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("<InterchangeStudent>\n<Student>\n</InterchangeStudent>", 3, "mismatched tag"),
        ("<InterchangeStudent>\n<Student/>", 2, "no element found"),
        ("", 1, "no element found"),
        ("<html>\n</html>", 1, "not <InterchangeStudent>"),
        ("<InterchangeContact/>", 1, "not <InterchangeStudent>"),
        ('<!DOCTYPE x [\n<!ENTITY a "aaaa">\n]>\n<InterchangeStudent>&a;</InterchangeStudent>', 2, "entity"),
        ('<!DOCTYPE x [\n<!ENTITY a SYSTEM "file:///etc/hostname">]><InterchangeStudent/>', 2, "entity"),
        ("<InterchangeStudent>\n<Student>&nowhere;</Student></InterchangeStudent>", 2, "undefined entity"),
    ],
)
def test_what_is_not_the_file_is_refused_with_its_line(
    tmp_path: Path, text: str, line: int, problem: str
) -> None:
    """Broken XML, another interchange and any declaration of an entity end in an error with the line."""
    with pytest.raises(ImportFailed, match=problem) as caught:
        list(read_records(file(tmp_path, text), STUDENT))
    assert (caught.value.file, caught.value.line) == ("Student.xml", line)


_LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">\n' for n in range(1, 10))
HEAD = "<InterchangeStudent>\n"


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        (
            f'<!DOCTYPE x [\n<!ENTITY l0 "lol">\n{_LAUGHS}]><InterchangeStudent>&l9;</InterchangeStudent>',
            2,
            "entity",
        ),
        ('<!DOCTYPE x [\n<!ENTITY % p SYSTEM "http://127.0.0.1:9/x">%p;]><InterchangeStudent/>', 2, "entity"),
        (
            f"{HEAD}<Student>{'x' * 1_000_001}</Student></InterchangeStudent>",
            2,
            "more than 1,000,000 characters",
        ),
        (
            f"{HEAD}<Student id='{'x' * 1_000_001}'/></InterchangeStudent>",
            2,
            "more than 1,000,000 characters",
        ),
        (f"{HEAD}<Student {'x' * 2_000_000}='1'/></InterchangeStudent>", 2, "longer than 1,048,576 bytes"),
        (f"{HEAD}<!-- {'x' * 2_000_000} --></InterchangeStudent>", 2, "longer than 1,048,576 bytes"),
        (f"{HEAD}{'<a>' * 200}", 2, "nested more than 100 deep"),
        (f"<{'x' * 5_000}/>", 1, "the file holds <x+>, not <InterchangeStudent>"),
        (f"{HEAD}<Student>\0</Student>", 2, "invalid token"),
        (f"{HEAD}<Student>&#0;</Student>", 2, "invalid character number"),
        (f"{HEAD}<Student>&#xD800;</Student>", 2, "invalid character number"),
    ],
)
def test_bombs_are_refused_with_their_line(tmp_path: Path, text: str, line: int, problem: str) -> None:
    """What would fill the memory, fetch something or is no text ends in a short error with the line."""
    with pytest.raises(ImportFailed, match=problem) as caught:
        list(read_records(file(tmp_path, text), STUDENT))
    assert (caught.value.file, caught.value.line) == ("Student.xml", line)
    assert len(str(caught.value)) < 200


def test_what_is_passed_over_does_not_fill_the_memory(tmp_path: Path) -> None:
    """Text outside the records that are read is forgotten as it comes."""
    path = file(tmp_path, f"<InterchangeStudent>{'x' * 3_000_000}<Student/></InterchangeStudent>")
    tracemalloc.start()
    records = list(read_records(path, STUDENT))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(records), peak < 1_000_000) == (1, True)


@pytest.mark.parametrize("encoding", sorted({*aliases.values(), "x-none", "undefined", "utf-9", "a" * 300}))
def test_a_file_in_any_encoding_is_read_or_refused(tmp_path: Path, encoding: str) -> None:
    """Whatever encoding a file claims to be in, it is read or refused by name."""
    body = b"<InterchangeStudent><Student><Id>\xe9\x80\xff\x01</Id></Student></InterchangeStudent>"
    path = tmp_path / "Student.xml"
    path.write_bytes(f'<?xml version="1.0" encoding="{encoding}"?>'.encode() + body)
    records, refusal = 0, None
    try:
        records = len(list(read_records(path, STUDENT)))
    except ImportFailed as error:
        refusal = error
    assert (records, refusal and refusal.file) in ((1, None), (0, "Student.xml"))


def test_a_record_without_end_is_refused(tmp_path: Path) -> None:
    """A record beyond all measure is an error, not a full memory."""
    path = file(tmp_path, f"<InterchangeStudent><Student>{'<A/>' * 20_001}</Student></InterchangeStudent>")
    with pytest.raises(ImportFailed, match="more than 20000 elements"):
        list(read_records(path, STUDENT))


def test_an_unknown_encoding_is_refused(tmp_path: Path) -> None:
    """A file in an encoding that nobody knows ends in an error that names it."""
    path = file(tmp_path, '<?xml version="1.0" encoding="x-none"?><InterchangeStudent/>')
    with pytest.raises(ImportFailed, match=r"Student\.xml"):
        list(read_records(path, STUDENT))


def test_other_encodings_are_read(tmp_path: Path) -> None:
    """UTF-16 and Latin-1 files are read as what they say they are."""
    for encoding in ("utf-16", "iso-8859-1"):
        head = f'<?xml version="1.0" encoding="{encoding}"?>'
        text = f"{head}<InterchangeStudent><Student>é</Student></InterchangeStudent>"
        (record,) = read_records(file(tmp_path, text, encoding), STUDENT)
        assert record.content == "é"


@pytest.mark.parametrize(
    ("level", "code"),
    [
        ("uri://ed-fi.org/GradeLevelDescriptor#Preschool/Prekindergarten", "PK"),
        ("uri://ed-fi.org/GradeLevelDescriptor#Kindergarten", "KG"),
        ("uri://ed-fi.org/GradeLevelDescriptor#First grade", "01"),
        ("uri://ed-fi.org/GradeLevelDescriptor#Twelfth grade", "12"),
        ("uri://district.example/GradeLevelDescriptor#9", "09"),
        ("11", "11"),
        ("uri://ed-fi.org/GradeLevelDescriptor#Grade 13", "Grade 13"),
        ("uri://ed-fi.org/GradeLevelDescriptor#Ungraded", "Ungraded"),
    ],
)
def test_grades_are_two_characters(level: str, code: str) -> None:
    """Grade levels become PK, KG and 01 to 12; others keep their words."""
    assert grade(level) == code


def test_parents_and_guardians_are_guardians() -> None:
    """Parents and guardians of any kind are; step-parents, grandparents and a parent's partner are not."""
    yes = [
        "Mother",
        "Father",
        "Parent",
        "Foster parent",
        "Legal Guardian",
        "CourtAppointedGuardian",
        "GUARDIAN",
    ]
    no = ["Mother, step", "Grandmother", "Grandparent", "MothersSignificantOther", "Aunt", "Emergency", ""]
    assert [is_guardian(word) for word in yes + no] == [True] * len(yes) + [False] * len(no)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("(950) 342 7522", "9503427522"),
        ("+1 950-342-7522", "+19503427522"),
        ("1 (950) 342.7522 ext. 12", "19503427522"),
        ("950 342 7522 #12", "9503427522"),
        ("tel: (+49) 30 1234", "+49301234"),
        ("none", None),
        ("", None),
        ("+", None),
    ],
)
def test_phone_numbers_have_one_form(text: str, number: str | None) -> None:
    """The digits and a leading plus stay, so that an opt-out by address matches (D19); extensions go."""
    assert phone_number(text) == number


@given(st.text(max_size=40))
def test_the_form_of_an_address_is_final(text: str) -> None:
    """Bringing an address into its form twice is the same as once; a number is digits after a plus or none."""
    if number := phone_number(text):
        assert phone_number(number) == number
        assert number.removeprefix("+").isdecimal()
        assert number.isascii()
    if address := email_address(text):
        assert email_address(address) == address


def test_emails_have_one_form() -> None:
    """Emails are trimmed and in lower case (D19); what has no @ within is none."""
    assert email_address("  AdaLane@Example.org\n") == "adalane@example.org"
    assert [email_address(text) for text in ("ada", "@example.org", "ada@", "")] == [None] * 4


def ties_among(size: int) -> st.SearchStrategy[tuple[int, list[tuple[int, int]]]]:
    number = st.integers(0, size - 1)
    return st.tuples(st.just(size), st.lists(st.tuples(number, number), max_size=15))


@given(st.integers(1, 12).flatmap(ties_among))
def test_joined_numbers_share_the_smallest(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    """The root of a number is the smallest that ties lead to, whatever their order."""
    size, ties = drawn
    joined = DisjointSets(size)
    for one, other in ties:
        joined.join(one, other)
    smallest = list(range(size))
    for _ in range(size):
        for one, other in ties:
            smallest[one] = smallest[other] = min(smallest[one], smallest[other])
    assert list(joined.roots()) == list(enumerate(smallest))
