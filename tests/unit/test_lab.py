"""JupyterLab as `make lab` starts it: for this machine only, and only with its token."""

import time
import urllib.error
import urllib.request

import psutil


def status(address):
    try:
        return urllib.request.urlopen(address, timeout=20).status
    except urllib.error.HTTPError as error:
        return error.code


def addresses(process):
    return {each.laddr.ip for each in psutil.Process(process.pid).net_connections("tcp") if each.status == psutil.CONN_LISTEN}


def test_lab_listens_on_this_machine_alone_and_wants_its_token(start_lab):
    process, address, token = start_lab()
    deadline = time.monotonic() + 20
    while not (listening := addresses(process)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert listening and listening <= {"127.0.0.1", "::1"} and len(token) >= 32
    assert status(f"{address}/api/contents/notebooks") == 403
    assert status(f"{address}/api/contents/notebooks?token={'0' * len(token)}") == 403
    assert status(f"{address}/api/contents/notebooks?token={token}") == 200
