"""URLs of lists, OCSP and issuers, and the partition of a serial number."""

import pytest

from config.schema import Api, Ca, Server, Settings
from services.ca.status.urls import StatusUrls, partition_in, partition_of, urls_of


def settings(**sections: object) -> Settings:
    return Settings(server=Server(domain="pki.example", data_dir="/d", runtime_dir="/r"), **sections)  # type: ignore[arg-type] # sections by name


def test_the_base_is_what_settings_say_or_this_hosts_plain_http() -> None:
    assert urls_of(settings()).base == "http://pki.example:8080"
    assert urls_of(settings(api=Api(http_port=80))).base == "http://pki.example"
    assert urls_of(settings(ca=Ca(status_url="http://crl.example/pki"))).base == "http://crl.example/pki"


def test_urls_name_issuer_and_partition() -> None:
    urls = StatusUrls("http://pki.example")
    assert urls.crl("0a1b", 7) == "http://pki.example/crl/0a1b/7.crl"
    assert urls.issuer("0a1b") == "http://pki.example/issuer/0a1b.cer"
    assert urls.ocsp == "http://pki.example/ocsp"
    assert partition_in(urls.crl("0a1b", 7)) == 7


@pytest.mark.parametrize(
    "url", ["", "http://pki.example/crl/0a1b.crl", "http://pki.example/crl/XY/1.crl", "http://a/crl/0a/1.crl?x"]
)
def test_other_urls_name_no_partition(url: str) -> None:
    assert partition_in(url) is None


def test_the_partition_is_the_first_octet_modulo_their_number() -> None:
    assert partition_of(0x8123, 8) == 0x81 % 8
    assert partition_of(0x81, 8) == 1
    assert partition_of(0, 8) == 0
    assert partition_of(0xFF << 120, 256) == 255
    assert partition_of(0xFF << 120, 1) == 0
