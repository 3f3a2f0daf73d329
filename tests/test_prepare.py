"""``data.prepare`` against a local server of tiny archives that have the real layouts."""

import errno
import hashlib
import http.server
import io
import json
import os
import shutil
import signal
import socket
import tarfile
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from data import prepare

BSDS = {
    "BSR/BSDS500/data/images/train/100075.jpg": b"train",
    "BSR/BSDS500/data/images/train/Thumbs.db": b"rubbish",
    "BSR/BSDS500/data/images/val/101085.jpg": b"val",
    "BSR/BSDS500/data/images/test/100007.jpg": b"test" * 5000,
    "BSR/BSDS500/data/groundTruth/train/100075.mat": b"mat train",
    "BSR/BSDS500/data/groundTruth/val/101085.mat": b"mat val",
    "BSR/BSDS500/data/groundTruth/test/100007.mat": b"mat test",
    "BSR/BSDS500/ucm2/test/100007.mat": b"not used",
    "BSR/bench/source/correspondPixels.cc": b"not used",
}
COCO_IMAGES = {f"val2017/{i:012}.jpg": bytes([i % 256]) * 100 for i in (139, 285)}
COCO_ANNOTATIONS = {
    "annotations/instances_train2017.json": b"large and not used",
    "annotations/instances_val2017.json": b'{"images": []}',
}
LYTRO = {
    f"LytroDataset-main/{folder}lytro-{i:02}-{side}.jpg": f"{folder}{i}{side}".encode()
    for folder, sides, last in (("", "AB", 20), ("Triple Series/", "ABC", 4))
    for side in sides
    for i in range(1, last + 1)
}


def make_zip(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def make_tgz(members, *links):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=0) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return stream.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """Serves ``files``; ``cut`` names those that break off half-way, then calls ``on_cut``."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.cut, self.requests, self.on_cut = {}, set(), [], lambda: None
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.removeprefix("/")
        self.server.requests.append(name)
        if name not in self.server.files:
            self.send_error(404)
            return
        body = self.server.files[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = name in self.server.cut
        # The first request for a file is torchvision's look for redirects; it reads no body.
        if cut and self.server.requests.count(name) % 2 == 0:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.server.on_cut()
        elif not cut:
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture(autouse=True)
def only_this_machine(monkeypatch):
    """Fail, not phone home, should anything address another host."""
    connect = socket.socket.connect

    def guarded(self, address):
        assert address[0] == "127.0.0.1", f"test reaches out to {address}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def publish(server, monkeypatch):
    """``publish(source, archive bytes …)``: serve them, the table stating size and MD5."""

    def publish(name, *bodies, md5=True, size=True, files=None):
        source = prepare.SOURCES[name]
        archives = []
        for i, (archive, body) in enumerate(zip(source.archives, bodies, strict=True)):
            server.files[archive.name] = body
            archives.append(
                replace(
                    archive,
                    md5=hashlib.md5(body).hexdigest() if md5 else None,
                    size=len(body) if size else None,
                    files=files[i] if files else archive.files,
                )
            )
        monkeypatch.setitem(prepare.SOURCES, name, replace(source, archives=tuple(archives)))

    return publish


@pytest.fixture
def bsds(publish):
    publish("bsds500", make_tgz(BSDS), files=[6])


@pytest.fixture
def run(server, tmp_path, capsys):
    """``run(name, *options)`` → exit code, stderr; the data go to ``tmp_path / "root"``."""

    def run(name, *options):
        where = () if "--archive" in options else ("--mirror", server.url)
        code = prepare.main([name, "--root", str(tmp_path / "root"), *where, *map(str, options)])
        return code, capsys.readouterr().err

    return run


def tree(folder):
    """Relative path → content of every file below ``folder``, hidden ones too."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def data_of(folder):
    return {k: v for k, v in tree(folder).items() if not k.endswith(".source.json")}


BSDS_TREE = {
    f"bsds500/{name.split('data/')[1]}": content
    for name, content in BSDS.items()
    if "/data/" in name and not name.endswith(".db")
}


def test_bsds500_has_the_layout_and_nothing_else(bsds, run, tmp_path):
    assert run("bsds500")[0] == 0
    assert data_of(tmp_path / "root") == BSDS_TREE


def test_coco_has_the_layout_from_both_archives(publish, run, tmp_path):
    publish("coco-val2017", make_zip(COCO_IMAGES), make_zip(COCO_ANNOTATIONS), files=[2, 1])
    assert run("coco-val2017")[0] == 0
    assert data_of(tmp_path / "root") == {
        "coco/val2017/000000000139.jpg": bytes([139]) * 100,
        "coco/val2017/000000000285.jpg": bytes([285 % 256]) * 100,
        "coco/annotations/instances_val2017.json": b'{"images": []}',
    }


def test_lytro_leaves_out_the_series_that_repeat_the_names(publish, run, tmp_path):
    publish("lytro", make_zip(LYTRO), md5=False, size=False)
    assert run("lytro")[0] == 0
    assert data_of(tmp_path / "root") == {
        f"lytro/lytro-{i:02}-{side}.jpg": f"{i}{side}".encode()
        for i in range(1, 21)
        for side in "AB"
    }


FUSED = {f"MMF-Net-4642/ResultsLytro/lytro-{i:02}-Fusion.png": bytes([i]) for i in range(1, 21)}
METHODS = "BFMF CNN CSR DRPL DSIFT ECNN GFDF GFF IFCNN IFM MST_SR MWGF NSCT_SR QB SESF".split()
MFIF = {
    f"MFIF-b666/fused_images/{name}_{i:02}_{method}.jpg": f"{method}{i}".encode()
    for name in ("lytro", "mffw")
    for method in (*METHODS, "ASR", "SR")
    for i in range(1, 21)
}
STACK = {
    f"focus-stack-facc/examples/{d}/pcb_{i:03}.jpg": b"pcb"
    for d in ("pcb", "depthmap")
    for i in range(1, 8)
}
LAYOUTS = {
    "lytro_triples": (LYTRO, [f"lytro-0{i}-{side}.jpg" for i in range(1, 5) for side in "ABC"]),
    "mmfnet_lytro": (FUSED, [f"lytro-{i:02}-Fusion.png" for i in range(1, 21)]),
    "mfifb_lytro": (MFIF, [f"{m}/lytro-{i:02}.jpg" for m in METHODS for i in range(1, 21)]),
    "pcb": (STACK, [f"pcb_{i:03}.jpg" for i in range(1, 8)]),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_evidence_has_its_layout_and_tells_whether_it_is_ours(
    name, publish, run, tmp_path, monkeypatch
):
    members, files = LAYOUTS[name]
    publish(name, make_zip({"README.md": b"not used"} | members), md5=False, size=False)
    code, err = run(name)
    assert code == 0 and "holds other files than our tables were measured on" in err
    (archive,) = prepare.SOURCES[name].archives
    folder = tmp_path / "root" / archive.folder
    assert sorted(data_of(folder)) == sorted(files)

    same = replace(archive, content=prepare.digest(folder))
    monkeypatch.setitem(prepare.SOURCES, name, replace(prepare.SOURCES[name], archives=(same,)))
    shutil.rmtree(folder)
    code, err = run(name)
    assert code == 0 and "warning" not in err


def test_photographs_of_an_installed_package_need_no_network(run, server, tmp_path):
    assert run("demo")[0] == 0 and not server.requests
    names = set(data_of(tmp_path / "root/demo"))
    assert len(names) == 8 and {"astronaut.png", "rocket.jpg"} < names
    assert run("demo")[0] == 0
    (tmp_path / "root/demo/astronaut.png").unlink()
    assert run("demo")[0] == 2


def test_unpublished_checksum_is_told_recorded_and_compared(publish, server, tmp_path, capsys):
    arguments = ["lytro", "--root", str(tmp_path), "--mirror", server.url]
    body = make_zip(LYTRO)
    publish("lytro", body, md5=False, size=False)
    prepare.main(arguments)
    sha256 = hashlib.sha256(body).hexdigest()
    assert sha256 in capsys.readouterr().out
    record = json.loads((tmp_path / "lytro.source.json").read_text())
    assert record["sha256"] == sha256 and record["bytes"] == len(body)

    shutil.rmtree(tmp_path / "lytro")
    publish("lytro", make_zip(LYTRO | {"new": b""}), md5=False, size=False)
    assert prepare.main(arguments) == 0
    assert f"another file last time: {sha256}" in capsys.readouterr().err


def test_second_run_downloads_nothing(bsds, run, server, tmp_path):
    run("bsds500")
    (tmp_path / "root/bsds500/.DS_Store").write_bytes(b"what a file manager leaves")
    requests, before = len(server.requests), tree(tmp_path)
    assert requests > 0
    assert run("bsds500")[0] == 0
    assert len(server.requests) == requests
    assert tree(tmp_path) == before


@pytest.mark.parametrize("harm", ["altered", "missing"])
def test_second_run_verifies(bsds, run, server, tmp_path, harm):
    run("bsds500")
    victim = tmp_path / "root/bsds500/images/val/101085.jpg"
    victim.write_bytes(b"lav") if harm == "altered" else victim.unlink()
    code, err = run("bsds500")
    assert code == 2 and "missing or altered" in err and "bsds500" in err


def test_a_folder_of_somebody_else_is_left_alone(bsds, run, server, tmp_path):
    own = tmp_path / "root/bsds500/mine.txt"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    code, err = run("bsds500")
    assert code == 2 and "move it away" in err
    assert tree(tmp_path) == {"root/bsds500/mine.txt": b"mine"} and not server.requests


def test_checksum_mismatch_leaves_nothing_behind(bsds, run, server, tmp_path):
    body = server.files["BSR_bsds500.tgz"]
    server.files["BSR_bsds500.tgz"] = body[:-1] + bytes([body[-1] ^ 1])
    code, err = run("bsds500")
    assert code == 2 and "MD5 differs" in err and "--archive" in err
    assert tree(tmp_path) == {}


def test_not_found(bsds, run, server, tmp_path):
    server.files.clear()
    code, err = run("bsds500")
    assert code == 2 and "404" in err and "/BSR_bsds500.tgz" in err and "--archive" in err
    assert err.count("error:") == 1 and tree(tmp_path) == {}


def test_nobody_answers(bsds, tmp_path, capsys):
    with socket.socket() as closed:  # bound, never listening
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        code = prepare.main(["bsds500", "--root", str(tmp_path), "--mirror", url])
    err = capsys.readouterr().err
    assert code == 2 and "cannot reach" in err and "refused" in err
    code = prepare.main(["bsds500", "--root", str(tmp_path), "--mirror", "nowhere"])
    assert code == 2 and "nowhere/BSR_bsds500.tgz" in capsys.readouterr().err


@pytest.mark.parametrize("known", ["md5 and size", "size", "nothing"])
@pytest.mark.parametrize("name", ["bsds500", "lytro"])
def test_truncated_transfer_is_never_taken_for_whole(publish, run, server, tmp_path, name, known):
    body, files = (make_tgz(BSDS), 6) if name == "bsds500" else (make_zip(LYTRO), 40)
    publish(name, body, md5="md5" in known, size="size" in known, files=[files])
    server.cut = set(server.files)
    code, err = run(name)
    assert code == 2
    if known != "nothing":
        assert f"broke off after {len(body) // 2} of {len(body)} bytes" in err
    assert tree(tmp_path) == {}
    server.cut = set()
    assert run(name)[0] == 0
    assert len(data_of(tmp_path / "root")) == files


EVIL = {
    "tar": ("bsds500", make_tgz(BSDS | {"../../evil": b""})),
    "tar absolute": ("bsds500", make_tgz(BSDS | {"/evil": b""})),
    "tar inside": ("bsds500", make_tgz(BSDS | {"BSR/BSDS500/data/images/val/../1.jpg": b""})),
    "tar link": ("bsds500", make_tgz(BSDS, ("BSR/link", "../../evil"))),
    "zip": ("lytro", make_zip(LYTRO | {"../../evil": b""})),
    "zip backslash": ("lytro", make_zip(LYTRO | {"..\\..\\evil": b""})),
    "zip absolute": ("lytro", make_zip(LYTRO | {"/evil/lytro-01-A.png": b""})),
}


@pytest.mark.parametrize("case", EVIL)
def test_path_traversal_is_refused(publish, run, tmp_path, case):
    name, body = EVIL[case]
    publish(name, body, files=[6 if name == "bsds500" else 40])
    code, err = run(name)
    assert code == 2 and "is refused" in err
    assert tree(tmp_path) == {}
    assert {path.name for path in tmp_path.iterdir()} == {"root"}
    assert not os.path.lexists("/evil") and not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({k: v for k, v in LYTRO.items() if "-07-" not in k}, "38 of the 40"),
        (LYTRO | {"other/lytro-07-A.jpg": b"?"}, "lytro-07-A.jpg twice"),
    ],
)
def test_an_archive_of_other_content_is_refused(publish, run, tmp_path, members, message):
    publish("lytro", make_zip(members), md5=False, size=False)
    code, err = run("lytro")
    assert code == 2 and message in err and "github.com/mnnejati/LytroDataset" in err
    assert tree(tmp_path) == {}


def test_interrupted_download_starts_again(bsds, run, server, tmp_path):
    server.cut = set(server.files)
    server.on_cut = lambda: (os.kill(os.getpid(), signal.SIGINT), threading.Event().wait(2))
    assert run("bsds500")[0] == 130
    assert tree(tmp_path) == {}
    server.cut = set()
    assert run("bsds500")[0] == 0
    assert data_of(tmp_path / "root") == BSDS_TREE


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "no space left"),
    ],
)
def test_interrupted_or_full_while_unpacking(
    bsds, run, server, tmp_path, monkeypatch, error, code, message
):
    copy, calls = shutil.copyfileobj, []

    def third_fails(*args):
        calls.append(1)
        if len(calls) == 3:
            raise error
        copy(*args)

    monkeypatch.setattr(shutil, "copyfileobj", third_fails)
    got, err = run("bsds500")
    assert got == code and message in err
    assert list(tree(tmp_path)) == ["root/.downloads/BSR_bsds500.tgz"]  # whole and verified
    requests = len(server.requests)
    assert run("bsds500")[0] == 0
    assert len(server.requests) == requests
    assert data_of(tmp_path / "root") == BSDS_TREE
    assert not (tmp_path / "root/.downloads").exists()


def test_disk_full_while_downloading(bsds, run, tmp_path, monkeypatch):
    def full(url, root, filename):
        Path(root, filename).write_bytes(b"some")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(prepare, "download_url", full)
    code, err = run("bsds500")
    assert code == 2 and "no space left" in err and "--root" in err
    assert tree(tmp_path) == {}


def test_a_damaged_archive_left_by_an_earlier_run_is_fetched_anew(bsds, run, server, tmp_path):
    left = tmp_path / "root/.downloads/BSR_bsds500.tgz"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"damaged")
    assert run("bsds500")[0] == 0
    assert data_of(tmp_path / "root") == BSDS_TREE


def test_archive_got_by_hand(publish, run, server, tmp_path):
    publish("lytro", make_zip(LYTRO), md5=False, size=False)
    mine = tmp_path / "Lytro Multi-focus Images.zip"
    mine.write_bytes(server.files["LytroDataset.zip"])
    assert run("lytro", "--archive", mine)[0] == 0
    assert len(data_of(tmp_path / "root")) == 40
    assert mine.exists() and not server.requests


def test_archive_got_by_hand_is_checked(publish, run, server, tmp_path):
    publish("coco-val2017", make_zip(COCO_IMAGES), make_zip(COCO_ANNOTATIONS), files=[2, 1])
    wrong, misnamed = tmp_path / "val2017.zip", tmp_path / "images.zip"
    for path in (wrong, misnamed):
        path.write_bytes(b"not an archive")
    code, err = run("coco-val2017", "--archive", wrong)
    assert code == 2 and "val2017.zip" in err
    code, err = run("coco-val2017", "--archive", misnamed)
    assert code == 2 and "images.zip" in err and "annotations_trainval2017.zip" in err
    code, err = run("coco-val2017", "--archive", wrong, tmp_path / "again" / "val2017.zip")
    assert code == 2 and f"{tmp_path / 'again' / 'val2017.zip'} has the name of {wrong}" in err
    code, err = run("bsds500", "--archive", tmp_path / "absent.tgz")
    assert code == 2 and "absent.tgz" in err
    assert wrong.exists() and misnamed.exists() and not server.requests


def test_root_that_cannot_be_made(bsds, server, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    root = str(tmp_path / "file" / "root")
    assert prepare.main(["bsds500", "--root", root, "--mirror", server.url]) == 2
    assert root in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "meant"), [("bsd500", "bsds500"), ("coco", "coco-val2017"), ("litro", "lytro")]
)
def test_unknown_name_suggests_the_nearest(run, server, typed, meant):
    code, err = run(typed)
    assert code == 2 and f"did you mean {meant} " in err and not server.requests


def test_list_states_size_terms_and_citation(capsys):
    assert prepare.main(["list"]) == 0
    out = capsys.readouterr().out
    for text in ("coco-val2017 (1068 MB)", "bsds500 (71 MB)", "lytro (size not published)"):
        assert text in out
    for source in prepare.SOURCES.values():
        assert source.terms in out and source.citation in out and source.page in out
