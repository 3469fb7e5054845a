"""The plug-in host finds and orders plug-ins, names the one at fault, and refuses to start with a faulty one."""

import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from gql_server.domain.batch import FilterKind
from gql_server.domain.sql import Sql
from gql_server.errors import PluginError
from gql_server.hooks import BatchScope, Context, PreferenceChanges, Role, RuleRequest, RunSummary
from gql_server.hooks.host import PluginHost
from gql_server.hooks.testing import notify_listeners

HEADER = "from gql_server.hooks import *\nfrom gql_server.hooks import hookimpl\n"
REASONS = (
    "@hookimpl\ndef contact_reasons():\n    return [ContactReason({code!r}, 'A label', 'A description.')]\n"
)
BATCH = RuleRequest(
    context=Context.BATCH, district="maple", time_zone="UTC", role=Role.ADMIN, mode="STUDENTS", cells=()
)
ONE_WAY = "one of `deny_channel_when`, `deny_select` and `check`"
RUN = RunSummary(run_id="run_1", district="maple", mode="STUDENTS", status="DONE", population=3)
SCOPE = BatchScope(district="maple", role=Role.ADMIN)


def write(folder: Path, name: str, body: str) -> Path:
    """Write a plug-in module, or a package where the name ends in a slash."""
    file = folder / (f"{name}__init__.py" if name.endswith("/") else f"{name}.py")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(HEADER + textwrap.dedent(body), encoding="utf-8")
    return file


def reason(code: str) -> str:
    return REASONS.format(code=code)


def hook(signature: str, result: str, mark: str = "@hookimpl") -> str:
    return f"{mark}\ndef {signature}:\n    return {result}\n"


def rules(result: str) -> str:
    return hook("eligibility_rules(request)", result)


def test_plugins_are_listed_and_called_in_the_order_of_folders_and_names(tmp_path: Path) -> None:
    """Reasons come folder by folder and by name within each; each knows its plug-in."""
    first, second = tmp_path / "one", tmp_path / "two"
    write(first, "b", reason("B"))
    write(first, "a_b/", reason("A_B"))
    write(first, "a", reason("A"))
    write(second, "aa", reason("AA"))
    host = PluginHost([first, second])
    assert [(r.code, r.plugin) for r in host.reasons] == [
        ("A", "a"),
        ("A_B", "a_b"),
        ("B", "b"),
        ("AA", "aa"),
    ]
    assert [plugin.name for plugin in host.plugins] == ["a", "a_b", "b", "aa"]


def test_a_package_imports_its_own_modules_relatively(tmp_path: Path) -> None:
    """A package's own modules work, and are not confused with those of another folder's plug-in of the same name."""
    for code in ("FIRST", "SECOND"):
        write(tmp_path / code, "mine/", f"from .helper import CODE\n{REASONS.replace('{code!r}', 'CODE')}")
        (tmp_path / code / "mine" / "helper.py").write_text(f"CODE = {code!r}\n", encoding="utf-8")
        assert [r.code for r in PluginHost([tmp_path / code]).reasons] == [code]


def test_an_installed_distribution_is_found_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plug-in is found by the metadata of its distribution, and the list names the distribution and its version."""
    write(tmp_path, "maple_rules", reason("MAPLE"))
    info = tmp_path / "maple_rules-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: maple-rules\nVersion: 1.2\n", encoding="utf-8"
    )
    (info / "entry_points.txt").write_text("[gql_server.plugins]\nmaple = maple_rules\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    (plugin,) = PluginHost([]).plugins
    assert (plugin.name, plugin.distribution, plugin.version) == ("maple", "maple-rules", "1.2")
    assert plugin.hooks == ("contact_reasons",)


def test_an_entry_point_that_leads_nowhere_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed plug-in that cannot be imported is an error that names it, not a warning."""
    info = tmp_path / "gone-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gone\nVersion: 1\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[gql_server.plugins]\ngone = no_such_module\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match="'gone': it cannot be loaded: ModuleNotFoundError"):
        PluginHost([])


def test_a_disabled_plugin_is_listed_and_its_code_is_not_run(tmp_path: Path) -> None:
    """Disabling a broken plug-in lets the server start without importing it."""
    write(tmp_path, "broken", "raise RuntimeError\n")
    (plugin,) = PluginHost([tmp_path], disabled=["broken"]).plugins
    assert (plugin.enabled, plugin.hooks) == (False, ())
    assert "gql_server_plugin_broken" not in sys.modules


def test_a_plugin_that_fails_leaves_no_half_of_itself(tmp_path: Path) -> None:
    """A module whose import fails is not left where a later import would find it."""
    write(tmp_path, "halfway", "raise RuntimeError\n")
    with pytest.raises(PluginError):
        PluginHost([tmp_path])
    assert "gql_server_plugin_halfway" not in sys.modules


def test_names_that_begin_with_an_underscore_or_a_dot_are_no_plugins(tmp_path: Path) -> None:
    """Caches and private modules beside plug-ins are not loaded."""
    write(tmp_path, "_private", "raise RuntimeError\n")
    write(tmp_path, ".hidden/", "raise RuntimeError\n")
    assert not PluginHost([tmp_path]).plugins


@pytest.mark.parametrize(
    ("body", "words"),
    {
        "syntax": ("def (", "cannot be loaded: SyntaxError"),
        "import": ("import no_such_module", "cannot be loaded: ModuleNotFoundError"),
        "exit": ("raise SystemExit(0)", "cannot be loaded: SystemExit"),
        "no hook": ("x = 1", "implements no hook"),
        "unmarked": (reason("A") + hook("filter_fields()", "[]", mark=""), "filter_fields is not marked"),
        "misspelt": (hook("contact_reason()", "[]"), "unknown hook 'contact_reason'"),
        "misspelt, optional": (
            reason("A") + hook("contact_reason()", "[]", "@hookimpl(optionalhook=True)"), "optional hook",
        ),
        "argument": (hook("eligibility_rules(asked)", "[]"), "does not fit its specification"),
        "default": (hook("eligibility_rules(request=None)", "[]"), "has a default for 'request'"),
        "wrapper": (
            "@hookimpl(wrapper=True)\ndef contact_reasons():\n    return (yield)\n", "is a wrapper",
        ),
        "old wrapper": (
            "@hookimpl(hookwrapper=True)\ndef contact_reasons():\n    yield\n", "is a wrapper",
        ),
        "tryfirst": (hook("contact_reasons()", "[]", "@hookimpl(tryfirst=True)"), "place in the order"),
        "trylast": (hook("contact_reasons()", "[]", "@hookimpl(trylast=True)"), "place in the order"),
        "coroutine": ("@hookimpl\nasync def contact_reasons():\n    return []\n", "is a coroutine"),
        "raises": (hook("contact_reasons()", "1 / 0"), "contact_reasons failed: ZeroDivisionError"),
        "raises late": (
            "@hookimpl\ndef contact_reasons():\n    yield 1 / 0\n", "failed: ZeroDivisionError",
        ),
        "exits": (hook("contact_reasons()", "exit()"), "contact_reasons failed: SystemExit"),
        "no list": (hook("contact_reasons()", "3"), "must give a list, not int"),
        "text": (hook("contact_reasons()", "'EMERGENCY'"), "must give a list, not str"),
        "wrong type": (hook("contact_reasons()", "['EMERGENCY']"), "ContactReason values, not str"),
        "lower case": (reason("emergency"), "reason code 'emergency'"),
        "empty code": (reason(""), "reason code ''"),
        "no label": (hook("contact_reasons()", "[ContactReason('A', '', 'B')]"), "without a label"),
        "twice": (hook("contact_reasons()", "[ContactReason('A', 'A', 'A')] * 2"), "'A' is given twice"),
        "63 reasons": (
            hook("contact_reasons()", "[ContactReason(f'A{n}', 'A', 'A') for n in range(63)]"),
            "more than 62",
        ),
        "mode code": (
            hook("batch_modes()", "[BatchMode('all people', 'A', 'A', FilterKind.CENSUS)]"),
            "mode code 'all people'",
        ),
        "mode without people": (
            hook("batch_modes()", "[BatchMode('ALL', 'A', 'A', FilterKind.CENSUS)]"),
            "the mode 'ALL' but has no `select_population`",
        ),
        "filter kind": (hook("batch_modes()", "[BatchMode('ALL', 'A', 'A', 'CENSUS')]"), "a FilterKind"),
        "field name": (
            hook("filter_fields()", "[FilterField('Last name', 'A', FieldType.TEXT, 'true')]"),
            "name 'Last name'",
        ),
        "field value": (
            hook("filter_fields()", "[FilterField('a', 'A', FieldType.TEXT, 'true')]"), "must use :value",
        ),
        "boolean value": (
            hook("filter_fields()", "[FilterField('a', 'A', FieldType.BOOLEAN, 'p.x = :value')]"),
            "must not use",
        ),
        "unknown parameter": (
            hook("filter_fields()", "[FilterField('a', 'A', FieldType.TEXT, ':value = :other')]"),
            "value for :other",
        ),
        "id prefix": (
            hook("filter_fields()", "[FilterField('a', 'A', FieldType.ID, 'p.x = any(:value)')]"),
            "id_prefix",
        ),
        "no kinds": (
            hook("filter_fields()", "[FilterField('a', 'A', FieldType.BOOLEAN, 'true', frozenset())]"),
            "kinds",
        ),
    }.values(),
)  # fmt: skip
def test_a_plugin_at_fault_stops_the_start(body: str, words: str, tmp_path: Path) -> None:
    """Whatever is wrong with a plug-in, the host is not made, and the error names the plug-in."""
    write(tmp_path, "faulty", body)
    with pytest.raises(PluginError, match="Plug-in 'faulty': ") as caught:
        PluginHost([tmp_path])
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        reason("A"),
        hook("batch_modes()", "[BatchMode('A', 'A', 'A', FilterKind.CENSUS)]")
        + hook("select_population(mode, scope)", "None"),
        hook("filter_fields()", "[FilterField('a', 'A', FieldType.BOOLEAN, 'true')]"),
    ],
)
def test_what_two_plugins_give_stops_the_start(body: str, tmp_path: Path) -> None:
    """A reason, mode or field has one owner; the second to give it is named (D3, D11)."""
    write(tmp_path, "first", body)
    write(tmp_path, "second", body)
    with pytest.raises(PluginError, match=r"'second'.* is given twice"):
        PluginHost([tmp_path])


def test_a_name_given_twice_stops_the_start(tmp_path: Path) -> None:
    """Two plug-ins of one name, in two folders, stop the start."""
    write(tmp_path / "one", "mine", reason("A"))
    write(tmp_path / "two", "mine", reason("B"))
    with pytest.raises(PluginError, match="'mine': two plug-ins have this name"):
        PluginHost([tmp_path / "one", tmp_path / "two"])


def test_a_folder_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    """A folder that does not exist is an error, not a folder without plug-ins."""
    with pytest.raises(PluginError, match="there is no folder"):
        PluginHost([tmp_path / "nowhere"])


def test_disabling_what_is_not_there_stops_the_start() -> None:
    """A misspelt name of a disabled plug-in is an error: the plug-in that was meant would stay on."""
    with pytest.raises(PluginError, match=r"'on_recrod'.*no such plug-in"):
        PluginHost([], disabled=["on_recrod"])


def test_a_name_that_cannot_be_one_stops_the_start(tmp_path: Path) -> None:
    """A plug-in's name appears in answers and logs, so it is a plain word."""
    write(tmp_path, "two words", reason("A"))
    with pytest.raises(PluginError, match="Rename it"):
        PluginHost([tmp_path])


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ("[Rule('Loud', 'Why.', deny_select=Sql('select 1'))]", "rule name 'Loud'"),
        ("[Rule('loud', '', deny_select=Sql('select 1'))]", "without words"),
        ("[Rule('loud', 'Why.')]", ONE_WAY),
        (
            "[Rule('loud', 'Why.', deny_select=Sql('select 1'), check=print)]",
            ONE_WAY,
        ),
        (
            "[Rule('loud', 'Why.', deny_channel_when=Sql('true'), check=print)]",
            ONE_WAY,
        ),
        ("[Rule('loud', 'Why.', deny_channel_when=Sql('true'))]", "`settings` must be ON and OFF"),
        (
            "[Rule('loud', 'Why.', deny_channel_when=Sql('c.who = :who'),"
            " settings=frozenset(Setting) - {Setting.NO_CHANGE})]",
            "without a value for :who",
        ),
        ("[Rule('loud', 'Why.', check=3)]", "cannot be called"),
        ("[Rule('loud', 'Why.', deny_select='select 1')]", "not an `Sql`"),
        ("[Rule('loud', 'Why.', deny_select=Sql('select :who'))]", "without a value for :who"),
        ("[Rule('loud', 'Why.', deny_select=Sql('select {who}'))]", "unfilled slot {who}"),
        ("[Rule('loud', 'Why.', deny_select=Sql('select :today', {'today': 1}))]", "sets :today"),
        ("[Rule.where('loud', 'Why.', 'true')]", "the rule 'loud' with SQL that is not an `Sql` with a text"),
        ("[Rule.where('loud', 'Why.', Sql('true', [1]), reasons=['STAFF'])]", "`args` are not a mapping"),
        ("[type('Mine', (Rule,), {})('Loud', 'Why.', check=print)]", "rule name 'Loud'"),
        ("[Rule.where('loud', 'Why.', Sql('c.address = \\x00'))]", "SQL with a NUL"),
        ("[Rule.where('loud', 'Why.', Sql('c.address = \\ud800'))]", "half a surrogate pair"),
        (
            "[Rule.where('loud', 'Why.', Sql('c.address = any(:a)', {'a': ['1', '\\x00']}))]",
            "value of :a holds a NUL",
        ),
        ("[Rule('loud', 'Why.', deny_select=Sql('select 1'), settings=frozenset())]", "frozenset of ON, OFF"),
        ("[Rule('loud', 'Why.', deny_select=Sql('select 1'))] * 2", "'wary.loud' is given twice"),
        (
            "[Rule('loud', 'Why.\\nHow.', deny_select=Sql('select 1'))]",
            "`because` must be one line of at most 300",
        ),
        (
            "[Rule('loud', 'W' * 301, deny_select=Sql('select 1'))]",
            "`because` must be one line of at most 300",
        ),
        (
            "[Rule('loud', 'Why.', code='so', deny_select=Sql('select 1'))]",
            "`code` must be upper-case letters",
        ),
        ("[Rule('loud', 'Why.', remedy='', deny_select=Sql('select 1'))]", "`remedy` is not a text"),
        ("[Rule('loud', 'Why.', remedy='Do\\x00.', check=print)]", "`remedy` must be one line"),
        ("[None]", "Rule values, not NoneType"),
        ("1 / 0", "eligibility_rules failed: ZeroDivisionError"),
    ],
)
def test_a_rule_at_fault_is_refused_with_the_plugins_name(result: str, words: str, tmp_path: Path) -> None:
    """A faulty rule stops the request and names its plug-in, whenever it is given (D10)."""
    write(tmp_path, "wary", rules(result))
    host = PluginHost([tmp_path])
    with pytest.raises(PluginError) as caught:
        host.rules(BATCH)
    assert caught.value.plugin == "wary"
    assert words in str(caught.value)


def test_rules_carry_the_name_of_their_plugin(tmp_path: Path) -> None:
    """Each rule carries the name of its plug-in, in the order of the plug-ins."""
    body = "[Rule.where('quiet', 'Why.', Sql('c.address is null'))]"
    write(tmp_path, "b", rules(body))
    write(tmp_path, "a", rules(body))
    write(tmp_path, "c", rules("[]"))
    assert [rule.full_name for rule in PluginHost([tmp_path]).rules(BATCH)] == ["a.quiet", "b.quiet"]


MODE = hook("batch_modes()", "[BatchMode('MINE', 'A', 'A', FilterKind.CENSUS)]")


def test_a_mode_is_selected_by_the_plugin_that_lists_it(tmp_path: Path) -> None:
    """Another plug-in that answers for a mode of this one is not asked (D11)."""
    population = "Population(Sql('select person_id from person where {}'))"
    write(tmp_path, "owner", MODE + hook("select_population(mode, scope)", population.format("true")))
    write(tmp_path, "thief", hook("select_population(mode, scope)", population.format("false")))
    host = PluginHost([tmp_path])
    assert host.modes["MINE"].plugin == "owner"
    assert host.population("MINE", SCOPE).sql.text.endswith("where true")


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ("None", "gives no `Population`"),
        ("'select 1'", "gives no `Population`"),
        ("Population('select 1')", "not an `Sql`"),
        ("Population(Sql('select :who'))", "without a value for :who"),
        ("Population(Sql('select 1'), through_students=1)", "`through_students` is neither true nor false"),
        ("Population(Sql('select 1'), of_district=None)", "`of_district` is neither true nor false"),
        ("1 / 0", "select_population failed: ZeroDivisionError"),
    ],
)
def test_a_population_at_fault_is_refused(result: str, words: str, tmp_path: Path) -> None:
    """A mode that gives no valid population stops the run and names its plug-in (D11)."""
    write(tmp_path, "owner", MODE + hook("select_population(mode, scope)", result))
    host = PluginHost([tmp_path])
    with pytest.raises(PluginError) as caught:
        host.population("MINE", replace(SCOPE, filter=Sql("true")))
    assert caught.value.plugin == "owner"
    assert words in str(caught.value)


def test_a_listener_that_fails_is_reported_and_the_others_are_told(tmp_path: Path) -> None:
    """A listener that fails undoes nothing, and the listeners of other plug-ins are still called."""
    write(tmp_path, "bad", hook("run_finished(run)", "1 / 0") + hook("preferences_changed(changes)", "1 / 0"))
    write(tmp_path, "good", "HEARD = []\n" + hook("run_finished(run)", "HEARD.append(run.run_id)"))
    host = PluginHost([tmp_path])
    failed = notify_listeners(host, "run_finished", run=RUN)
    assert [error.plugin for error in failed] == ["bad"]
    assert sys.modules["gql_server_plugin_good"].HEARD == ["run_1"]
    changes = PreferenceChanges(district="maple", revision=1, source="BATCH", preferences=3)
    assert [error.plugin for error in notify_listeners(host, "preferences_changed", changes=changes)] == [
        "bad"
    ]


def test_the_error_of_a_hook_tells_its_type_and_not_its_words(tmp_path: Path) -> None:
    """The words of a plug-in's exception may hold a person's data, so the answer does not repeat them."""
    body = "@hookimpl\ndef eligibility_rules(request):\n    raise ValueError('555-0100')\n"
    write(tmp_path, "chatty", body)
    host = PluginHost([tmp_path])
    with pytest.raises(PluginError) as caught:
        host.rules(BATCH)
    assert "555" not in str(caught.value)


def test_fields_are_known_by_the_kinds_they_are_for(host: PluginHost) -> None:
    """A student filter cannot ask for an assignment, nor a census filter for a grade."""
    assert "grade" in host.fields[FilterKind.STUDENT]
    assert "grade" not in host.fields[FilterKind.CENSUS]
    assert "assignmentTitle" in host.fields[FilterKind.CENSUS]


def test_a_subclass_of_a_value_is_that_value(tmp_path: Path) -> None:
    """Authors may subclass the values that hooks give: such a value is validated and taken like any other."""
    value = "type('Mine', (ContactReason,), {})('SNOW', 'Snow', 'It snows.')"
    write(tmp_path, "wary", hook("contact_reasons()", f"[{value}]"))
    assert [found.code for found in PluginHost([tmp_path]).reasons] == ["SNOW"]
