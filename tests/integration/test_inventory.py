"""The inventory of a running tree, asked for by its commands and over HTTPS."""

import json
import time

import pytest

from tests.rig.signing_request import signing_request
from tests.rig.tree import Tree

pytestmark = pytest.mark.integration


def test_what_is_issued_is_counted_found_and_watched(shared_tree: Tree) -> None:
    serials = [
        shared_tree.issue(signing_request(name), **asked).json()["serial"]
        for name, asked in (
            ("a.team.example.test", {}),
            ("b.team.example.test", {"profile": "tls-client"}),
            ("other.test", {"validity_seconds": 120}),
        )
    ]
    found = json.loads(shared_tree.run("inventory", "--json").stdout)
    assert found["certificates"] >= 4
    assert {"value": "tls-client", "certificates": 1} in found["profiles"]
    assert found["expiring"][0]["unrenewed"] == 1
    listed = json.loads(shared_tree.run("certs", "--search", "team.example.test", "--json").stdout)["certificates"]
    assert [certificate["serial"] for certificate in listed] == serials[:2]
    ending = json.loads(shared_tree.run("certs", "--expires-within", "1h", "--json").stdout)["certificates"]
    assert [certificate["serial"] for certificate in ending] == serials[2:]
    report = json.loads(shared_tree.run("expiry", "--json").stdout)
    kinds = {item["kind"]: item for item in report["items"]}
    assert {"root", "intermediate", "api"} <= set(kinds)
    assert all(item["state"] == "ok" and item["not_after"] > time.time() for item in report["items"])
    assert report["leaves"] == []


@pytest.mark.parametrize("path", ["/v1/inventory", "/v1/expiry"])
def test_the_inventory_is_for_those_with_a_token(shared_tree: Tree, path: str) -> None:
    assert shared_tree.api("GET", path, authorized=False).status == 401
    assert shared_tree.api("GET", path).status == 200


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/inventory?top=0", "top"),
        ("/v1/inventory?top=x", "top"),
        ("/v1/expiry?within=-1", "within"),
        ("/v1/expiry?limit=1001", "limit"),
        ("/v1/certificates?issuer=XYZ", "issuer"),
        ("/v1/certificates?issued_after=-1", "issued_after"),
        ("/v1/certificates?status=gone", "status"),
    ],
)
def test_a_value_that_is_none_is_named(shared_tree: Tree, path: str, field: str) -> None:
    answer = shared_tree.api("GET", path)
    assert (answer.status, answer.json()["field"]) == (422, field)


def test_a_search_for_what_is_no_domain_is_malformed(shared_tree: Tree) -> None:
    answer = shared_tree.api("GET", "/v1/certificates?search=https%3A%2F%2Fa.test")
    assert (answer.status, answer.json()["field"]) == (400, "search")
