"""An image endpoint of OpenAI's form: a real server on this machine that answers well, late, badly, or with traps."""
import base64
import io
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

import gilt
from gilt.cli import main
from gilt.errors import ConfigError, ModelError
from gilt.generators import wire
from gilt.generators.endpoint import Endpoint, EndpointConfig
from gilt.generators.orders import make_images, orders
from gilt.generators.prompts import Prompts, load_prompts

KEY = "sk-very-secret-0123456789"
QUICK = {"model": "tiny-image", "wait": 0.01, "timeout": 5.0}


def png(colour=(9, 90, 200), size=(24, 16), **extra) -> bytes:
    """Return a picture's file."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, **{"format": "PNG"} | extra)
    return buffer.getvalue()


class Server(ThreadingHTTPServer):
    """Answers as `script` says: a list of what to do in turn, the last for ever; keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.asked, self.headers, self.lock = ["b64"], [], [], threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def next(self) -> object:
        """Return what to do now."""
        with self.lock:
            return self.script.pop(0) if len(self.script) > 1 else self.script[0]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append((self.path, question))
            self.server.headers.append(dict(self.headers))
        what = self.server.next()
        if isinstance(what, tuple):
            self._answer(*what)
        elif what == "b64":
            colour = (len(question["prompt"]) % 256, 90, 200)
            self._answer(200, {"data": [{"b64_json": base64.b64encode(png(colour)).decode()}]})
        elif what == "url":
            self._answer(200, {"data": [{"url": f"{self.server.address}/made.png"}]})
        elif what == "slow":
            time.sleep(1)
        elif what == "half":
            self.send_response(200)
            self.send_header("Content-Length", "5000")
            self.end_headers()
            self.wfile.write(b'{"data": ')

    def do_GET(self):
        with self.server.lock:
            self.server.headers.append(dict(self.headers))
        self._answer(200, png((1, 2, 3)))

    def _answer(self, status, body, headers=None):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Be silent."""


@pytest.fixture
def server():
    held = Server()
    thread = threading.Thread(target=held.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield held
    held.shutdown()
    thread.join()
    held.server_close()


def endpoint(server, *, key_from=None, **settings) -> Endpoint:
    return Endpoint(server.address, EndpointConfig(**QUICK | settings), key_from=key_from)


def answer(server, **settings):
    """Return the image that one question brings."""
    return next(endpoint(server, **settings).paint(orders(load_prompts(), {"wren": 1})))[1]


def refusal(code, message="no") -> dict:
    return {"error": {"code": code, "message": message, "type": "invalid_request_error"}}


def test_images_are_asked_for_one_by_one_and_kept_as_png_that_scan_reads(server, tmp_path):
    made = make_images(endpoint(server, size="24x16", answer="b64_json"), tmp_path / "made",
                       orders(load_prompts(), {"wren": 2, "robin": 1}), origin="tiny-image")
    assert [path for path, _ in server.asked] == ["/v1/images/generations"] * 3
    assert server.asked[2][1] == {"model": "tiny-image", "prompt": "a photograph of a robin", "n": 1, "size": "24x16",
                                  "response_format": "b64_json"}
    frame = gilt.scan(tmp_path / "made").frame.set_index("path")
    assert list(frame["width"]) == [24] * 3 and list(frame["origin"]) == ["tiny-image"] * 3
    assert frame.loc["robin/000000.png", "prompt"] == "a photograph of a robin"
    assert set(frame["endpoint"]) == {f"127.0.0.1:{server.server_port}"} and set(frame["model"]) == {"tiny-image"}
    assert frame["seed"].isna().all()  # none was sent, so none made the image
    assert len(made.rows) == 3


def test_a_picture_is_fetched_from_its_address_without_the_key(server, monkeypatch):
    monkeypatch.setenv("TINY_KEY", KEY)
    server.script = ["url"]
    assert answer(server, key_from="TINY_KEY").getpixel((0, 0)) == (1, 2, 3)
    asked, fetched = server.headers
    assert asked["Authorization"] == f"Bearer {KEY}" and "Authorization" not in fetched


@pytest.mark.parametrize("place", ["http://127.0.0.1:1/secret", "file:///etc/passwd", "ftp://127.0.0.1/x", "//127.0.0.1:1/x"])
def test_an_answer_does_not_send_us_elsewhere(server, place):
    server.script = [(200, {"data": [{"url": place}]})]
    with pytest.raises(ModelError, match="neither https nor its own"):
        answer(server)


def test_a_redirection_is_not_followed(server, monkeypatch):
    monkeypatch.setenv("TINY_KEY", KEY)
    for status in (301, 302, 307):
        server.script = [(status, b"", {"Location": f"{server.address}/elsewhere"})]
        with pytest.raises(ModelError, match=f"sends us elsewhere \\({status}\\)"):
            answer(server, key_from="TINY_KEY")
    assert len(server.headers) == 3


@pytest.mark.parametrize("first", [(429, refusal("rate_limit_exceeded")), (503, b"busy"), (500, {}), "half", "close"])
def test_a_busy_endpoint_is_asked_again(server, first):
    server.script = [first, first, "b64"]
    assert answer(server).size == (24, 16)
    assert len(server.asked) == 3


def test_the_endpoint_says_how_long_to_wait(server):
    server.script = [(429, b"", {"Retry-After": "1"}), "b64"]
    start = time.monotonic()
    answer(server, wait=30.0)
    assert 0.9 < time.monotonic() - start < 10


def test_an_endpoint_that_stays_busy_or_silent_is_given_up(server):
    server.script = [(503, b"busy")]
    with pytest.raises(ModelError, match=r"gives 503 Service Unavailable, asked 3 times: run the same command again"):
        answer(server, tries=3)
    server.script = ["slow"]
    with pytest.raises(ModelError, match=r"gives no answer in 0\.2 s, asked once"):
        answer(server, tries=1, timeout=0.2)


@pytest.mark.parametrize("script, said", [
    ((401, refusal("invalid_api_key", "bad key")), "answers 401 Unauthorized: bad key; it asks for a key: --key-from"),
    ((404, refusal("model_not_found", "no such model")), "answers 404 Not Found: no such model"),
    ((429, refusal("insufficient_quota", "no money left")), "answers 429 Too Many Requests: no money left"),
    ((400, b"<html>\x1b[31mno</html>"), r"answers 400 Bad Request: <html> \[31mno</html>"),
    ((200, b"hello"), "something else than data"), ((200, {"data": []}), "something else than data"),
    ((200, {"data": [{}]}), "neither b64_json nor url"), ((200, {"data": [{"b64_json": "%%%"}]}), "base64 that is none"),
    ((200, {"data": [{"b64_json": base64.b64encode(b"<svg/>").decode()}]}), "something else than an image"),
    ((200, {"data": [{"b64_json": base64.b64encode(png(size=(20_000, 20_000))).decode()}]}), "decompression bomb")])
def test_an_answer_that_is_no_image_stops_the_run_with_a_reason(server, script, said):
    server.script = [script]
    with pytest.raises(ModelError, match=said):
        answer(server)
    assert len(server.asked) == 1


def test_a_long_answer_is_left_unread(server, monkeypatch):
    monkeypatch.setattr(wire, "MOST_BYTES", 1 << 20)
    server.script = [(200, b" " * (3 << 20))]
    with pytest.raises(ModelError, match="more than 1 MiB"):
        answer(server)


def test_what_a_picture_carries_beside_its_pixels_is_not_kept(server, tmp_path):
    from PIL.PngImagePlugin import PngInfo

    notes = PngInfo()
    notes.add_text("owner", "somebody")
    server.script = [(200, {"data": [{"b64_json": base64.b64encode(png(pnginfo=notes, icc_profile=b"x" * 500)).decode()}]})]
    made = make_images(endpoint(server, save_size=8), tmp_path / "made", orders(load_prompts(), {"wren": 1}), origin="tiny")
    with Image.open(made.folder / "wren" / "000000.png") as image:
        assert image.size == (8, 8) and not image.info


def test_refused_prompts_are_counted_and_the_others_kept(server, tmp_path, caplog):
    server.script = ["b64", (400, refusal("moderation_blocked")), (400, refusal("content_policy_violation")), "b64"]
    made = make_images(endpoint(server), tmp_path / "made", orders(load_prompts(), {"wren": 4}), origin="tiny")
    assert sorted(made.rows) == ["wren/000000.png", "wren/000003.png"]
    assert "2 images not kept: the endpoint's rules refused their prompts" in caplog.text


def test_what_came_is_kept_when_the_rest_fails_and_is_not_asked_for_again(server, tmp_path):
    wanted = orders(load_prompts(), {"wren": 6})
    server.script = ["b64", "b64", (404, b"gone"), "b64"]
    with pytest.raises(ModelError, match="404"):
        make_images(endpoint(server, parallel=4), tmp_path / "made", wanted, origin="tiny")
    assert len(server.asked) == 4
    server.script = ["b64"]
    assert len(make_images(endpoint(server, parallel=4), tmp_path / "made", wanted, origin="tiny").rows) == 6
    assert len(server.asked) == 7


def test_questions_go_out_in_parallel(server):
    server.script = [(200, {"data": [{"b64_json": base64.b64encode(png()).decode()}]})]
    made = list(endpoint(server, parallel=4).paint(orders(load_prompts(), {"wren": 4})))
    assert [order.number for order, _ in made] == [0, 1, 2, 3]
    assert all(np.asarray(image).shape == (16, 24, 3) for _, image in made)


def test_an_endpoint_that_understands_more_is_told_more(server, tmp_path, caplog):
    wanted = orders(Prompts(negative="text"), {"wren": 1}, seed=3)
    made = make_images(endpoint(server, send=["seed", "negative_prompt"], further={"quality": "low"}), tmp_path / "a", wanted,
                       origin="tiny")
    assert server.asked[0][1] | {"prompt": ""} == {"model": "tiny-image", "prompt": "", "n": 1, "quality": "low",
                                                    "seed": wanted[0].seed, "negative_prompt": "text"}
    row = made.rows["wren/000000.png"]
    assert (row["seed"], row["negative_prompt"], row["further"]) == (str(wanted[0].seed), "text", '{"quality": "low"}')
    row = make_images(endpoint(server), tmp_path / "b", wanted, origin="tiny").rows["wren/000000.png"]
    assert (row["seed"], row["negative_prompt"]) == ("", "") and "negative prompts are left out" in caplog.text


@pytest.mark.parametrize("url, full", [
    ("http://h", "http://h/v1/images/generations"), ("http://h/v1/", "http://h/v1/images/generations"),
    ("https://h/api/v2", "https://h/api/v2/images/generations"),
    ("https://h/d/images/generations?api-version=1", "https://h/d/images/generations?api-version=1")])
def test_an_address_is_completed(url, full):
    assert Endpoint(url, EndpointConfig(**QUICK)).url == full


@pytest.mark.parametrize("url, said", [("h:80", "is no address"), ("file:///etc/passwd", "is no address"),
                                       ("https://me:secret@h", "holds a name or password")])
def test_an_address_that_is_none_is_refused(url, said):
    with pytest.raises(ConfigError, match=said) as error:
        Endpoint(url, EndpointConfig(**QUICK))
    assert "secret" not in str(error.value)


def test_the_key_is_never_printed_stored_or_sent_in_the_clear(server, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("TINY_KEY", KEY)
    with pytest.raises(ConfigError, match="not sent over plain http to another machine") as error:
        Endpoint("http://images.example.org", EndpointConfig(**QUICK), key_from="TINY_KEY")
    assert KEY not in str(error.value)
    server.script = [(500, b""), (401, refusal("invalid_api_key", f"the key {KEY} is not known")), "b64"]
    arguments = ["generate", "images", "--classes", "wren", "--count", "1", "--endpoint", server.address, "--model",
                 "tiny/image", "--key-from", "TINY_KEY", "--set", "wait=0.01", "-o", str(tmp_path / "made"), "--yes"]
    for code in (2, 0):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == code
    said = capfd.readouterr()
    assert "the key ... is not known; is the key right?" in said.err and "1 image of tiny/image will be asked of" in said.err
    assert KEY not in said.err + said.out
    for path in (tmp_path / "made").rglob("*.*"):
        assert KEY.encode() not in path.read_bytes()
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}


def test_no_key_is_sent_unless_one_is_named(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    answer(server)
    assert "Authorization" not in server.headers[0]
    with pytest.raises(ConfigError, match="variable NO_SUCH_KEY is not set"):
        endpoint(server, key_from="NO_SUCH_KEY")


def test_nothing_is_asked_before_the_user_says_yes(server, tmp_path, capsys):
    arguments = ["generate", "images", "--classes", "wren,robin", "--endpoint", server.address, "--model", "tiny", "-o",
                 str(tmp_path / "made")]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2 and server.asked == [] and not (tmp_path / "made").exists()
    assert "200 images of tiny will be asked of 127.0.0.1" in (said := capsys.readouterr().err) and "add --yes" in said


@pytest.mark.parametrize("more, said", [(["--pipeline", "x"], "--pipeline belongs to a pipeline"),
                                        (["--lora", "x"], "--lora belongs to a pipeline"),
                                        (["--set", "steps=5"], "unknown key 'steps'"), (["--model", ""], "--model NAME")])
def test_settings_of_a_pipeline_do_not_belong_to_an_endpoint(server, tmp_path, capsys, more, said):
    with pytest.raises(SystemExit):
        main(["generate", "images", "--classes", "wren", "--endpoint", server.address, "--model", "tiny", "--yes", "-o",
              str(tmp_path / "made"), *more])
    assert said in capsys.readouterr().err and server.asked == []


def test_an_address_where_nobody_answers_is_said_at_once(tmp_path):
    held = Server()
    held.server_close()
    start = time.monotonic()
    with pytest.raises(ModelError, match=r"cannot be reached: .*refused.*Is the address right\?"):
        answer(held, wait=30.0)
    assert time.monotonic() - start < 5


def test_stopped_and_run_again_asks_only_for_the_rest(server, tmp_path):
    server.script = [*["b64"] * 3, "slow", "b64"]
    arguments = [sys.executable, "-m", "gilt", "generate", "images", "--classes", "wren", "--count", "6", "--endpoint",
                 server.address, "--model", "tiny", "--set", "timeout=30", "--yes", "-o", str(tmp_path / "made")]
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL, env=os.environ)
    while process.poll() is None and len(server.asked) < 4:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert len(server.asked) == 4
    server.script = ["b64"]
    made = make_images(endpoint(server, model="tiny"), tmp_path / "made", orders(load_prompts(), {"wren": 6}), origin="tiny")
    assert len(made.rows) == 6 and len(server.asked) == 7
