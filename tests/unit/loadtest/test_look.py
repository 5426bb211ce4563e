"""What a server offers, read off its OpenAPI description."""

import pytest

from loadtest.scenario.exchange import CHECK_PATH, MODERATIONS_PATH
from loadtest.scenario.look import Offered, Unusable, look_at
from tests.unit.loadtest.one_answer import always_answering


def test_the_description_says_which_paths_there_are_and_whether_a_key_is_due():
    with always_answering(200, f'{{"paths": {{"{CHECK_PATH}": {{"post": {{"security": []}}}}}}}}') as url:
        assert look_at(url) == Offered((CHECK_PATH,), needs_key=True)


def test_without_a_description_both_formats_are_tried():
    with always_answering(404, "") as url:
        assert look_at(url) == Offered((CHECK_PATH, MODERATIONS_PATH), needs_key=False)


@pytest.mark.parametrize("body", ["<html>", "[]", "{}", '{"paths": {"/v1/other": {"post": {}}}}'])
def test_another_server_is_no_use(body):
    with always_answering(200, body) as url, pytest.raises(Unusable, match="has no POST /v1/check"):
        look_at(url)


@pytest.mark.parametrize("url", ["ftp://guard", "guard:8000", "http://", "http://[::1", "http://guard:port"])
def test_what_is_no_address_of_a_server_is_said(url):
    with pytest.raises(Unusable, match="is no http"):
        look_at(url)
