"""What two ends of a connection agree on."""

import pytest

from services.stoq.frames import FrameError, Hello
from services.stoq.hello import UnsupportedVersion, accept, negotiate

CLIENT = Hello(2, ("a", "b", "d"), 1_000, 50, 20)
SERVER = Hello(3, ("a", "c", "d"), 2_000, 40, 10)


def test_agreed_is_the_older_version_what_both_can_and_the_smaller_limits() -> None:
    agreed = negotiate(CLIENT, SERVER)
    assert agreed.hello == Hello(2, ("a", "d"), 1_000, 40, 10)
    assert (agreed.version, agreed.max_body, agreed.max_streams, agreed.idle_s) == (2, 1_000, 40, 10)
    assert agreed.can("d")
    assert not agreed.can("b")


def test_both_ends_agree_on_the_same() -> None:
    agreed = negotiate(CLIENT, SERVER)
    assert accept(CLIENT, agreed.hello) == agreed


def test_a_version_that_is_not_spoken_any_more_is_refused() -> None:
    with pytest.raises(UnsupportedVersion) as caught:
        negotiate(CLIENT, SERVER, oldest=3)
    assert caught.value.kind == "unsupported-version"
    with pytest.raises(UnsupportedVersion):
        accept(SERVER, CLIENT, oldest=3)


@pytest.mark.parametrize(
    "answer",
    [
        Hello(3, (), 1_000, 50, 20),
        Hello(2, ("c",), 1_000, 50, 20),
        Hello(2, (), 1_001, 50, 20),
        Hello(2, (), 1_000, 51, 20),
        Hello(2, (), 1_000, 50, 21),
    ],
)
def test_no_answer_goes_beyond_what_the_client_said(answer: Hello) -> None:
    with pytest.raises(FrameError, match="beyond"):
        accept(CLIENT, answer)
