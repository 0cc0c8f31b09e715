"""`trustchain certs` and the pages of a list."""

from typing import Any

from services.ca.messages import MAX_PAGE, Certificate, CertificatePage
from services.cli import _line, _listed


def certificate(number: int, *names: str) -> Certificate:
    return Certificate(
        serial=f"{number:x}",
        certificate="",
        chain=[],
        not_before=0,
        not_after=0,
        profile="tls-server",
        subject="",
        names=list(names),
        issued_at=0,
        status="valid",
    )


class Pages:
    """Gives pages of at most `page` of `total` certificates, however many more are asked for."""

    def __init__(self, total: int, page: int) -> None:
        self.total, self.page = total, page
        self.asked: list[dict[str, Any]] = []

    def get(self, path: str, reply_type: type[CertificatePage], parameters: dict[str, Any]) -> CertificatePage:
        assert (path, reply_type) == ("/v1/certificates", CertificatePage)
        self.asked.append(dict(parameters))
        start = int(parameters.get("cursor", 0))
        end = min(self.total, start + min(parameters["limit"], self.page))
        return CertificatePage(
            certificates=[certificate(n) for n in range(start, end)], next_cursor=str(end) if end < self.total else None
        )


def listed(pages: Pages, limit: int) -> tuple[list[str], bool]:
    found, more = _listed(pages, {"name": "a.test"}, limit)  # type: ignore[arg-type]  # the one method of it that is used
    return [c.serial for c in found], more


def test_short_pages_are_followed_until_there_are_enough() -> None:
    pages = Pages(total=100, page=3)
    serials, more = listed(pages, 7)
    assert (serials, more) == ([f"{n:x}" for n in range(7)], True)
    assert [asked["limit"] for asked in pages.asked] == [7, 4, 1]
    assert all(asked["name"] == "a.test" for asked in pages.asked)


def test_the_end_of_the_list_ends_it() -> None:
    assert listed(Pages(total=5, page=3), 50) == ([f"{n:x}" for n in range(5)], False)


def test_no_page_is_larger_than_the_server_gives() -> None:
    pages = Pages(total=3 * MAX_PAGE, page=MAX_PAGE)
    assert len(listed(pages, 2 * MAX_PAGE)[0]) == 2 * MAX_PAGE
    assert max(asked["limit"] for asked in pages.asked) == MAX_PAGE


def test_a_name_cannot_make_the_terminal_do_anything() -> None:
    """Whatever a record holds: an escape, a line end, a change of direction."""
    line = _line(certificate(1, "host.example", "\x1b[31m\n\u202eé\U0001f600"))
    assert line.endswith(r"host.example, \x1b[31m\n\u202e\xe9\U0001f600")
    assert line.isascii()
    assert line.isprintable()
