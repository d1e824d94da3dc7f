import pytest

from sidlsg.errors import InputError
from sidlsg.trigger.service.ledger import Intent, Ledger

INTENT = Intent(name="cause-1", pipeline="p", version="", parameters={"teacher": "s3://b/t"})


def test_a_delivery_counts_once_also_after_a_restart(tmp_path):
    path = tmp_path / "new" / "ledger.db"
    assert Ledger(path).take("d1", [INTENT], 1.0) == [INTENT]
    assert Ledger(path).take("d1", [INTENT], 2.0) == []
    assert Ledger(path).unstarted() == [INTENT]


def test_a_cause_counts_once_in_two_deliveries(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.take("d1", [INTENT], 1.0)
    assert ledger.take("d2", [INTENT], 2.0) == []


def test_a_started_cause_is_wanted_no_more_and_survives_pruning(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.take("d1", [INTENT], 1.0)
    ledger.started(INTENT.name, "run-1")
    assert ledger.unstarted() == []
    assert ledger.prune(before=5.0) == 1
    assert ledger.take("d1", [INTENT], 6.0) == []


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path):
    path = tmp_path / "ledger.db"
    path.write_text("no database at all" * 100)
    with pytest.raises(InputError, match=r"ledger\.db cannot be used"):
        Ledger(path)
