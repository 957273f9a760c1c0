"""Files and inputs that name other files, hosts and protocols: case 25."""

from __future__ import annotations

import socket
import threading

import pytest

from pipeline.errors import UsageError
from pipeline.runner import run
from tests.bad_inputs.checking import config_of, run_between
from tests.videos import make


@pytest.fixture
def listener():
    """(its port, connections so far): whoever asks it for anything is counted."""
    server = socket.create_server(("127.0.0.1", 0))
    seen = []

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            seen.append(connection.recv(100))
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    port = server.getsockname()[1]
    yield port, seen
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


CONTAINERS = {
    "concat.mp4": "ffconcat version 1.0\nfile SECRET\n",
    "concat-http.mp4": "ffconcat version 1.0\nfile http://127.0.0.1:PORT/a.mp4\n",
    "playlist.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nSECRET\n#EXT-X-ENDLIST\n",
    "playlist-http.ts": "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:PORT/a.ts\n#EXT-X-ENDLIST\n",
    "dash.mp4": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011">'
    "<BaseURL>http://127.0.0.1:PORT/</BaseURL></MPD>",
    "session.mp4": "v=0\nc=IN IP4 127.0.0.1\nm=video PORT RTP/AVP 96\n",
    "picture%d.mp4": "P6 1 1 255 abc",
}


@pytest.mark.parametrize("backend", ["pyav", "opencv"])
@pytest.mark.parametrize("name", CONTAINERS)
def test_25_files_that_name_other_files(folder, listener, name, backend):
    port, seen = listener
    secret = make(folder.parent / "secret.mp4", 7)
    path = folder / name
    content = CONTAINERS[name].replace("SECRET", str(secret)).replace("PORT", str(port))
    path.write_text(content * (1 if "xml" in content else 3))
    outcome = run_between(folder, decode={"backend": backend})
    outcome.failed(path, "index", "not a video")
    assert not seen


def test_25_opencv_opens_no_such_file_either(folder, listener):
    """By itself, as if a file had changed after it was indexed."""
    import numpy as np

    from pipeline.config import DecodeConfig
    from pipeline.errors import VideoError
    from pipeline.sources.files import LocalFile
    from pipeline.sources.frames import DecodeNotes, frames_opencv
    from tests.sources.decoding import LIMITS, index_video, source_of

    port, seen = listener
    secret = make(folder / "secret.mp4", 7)
    index = index_video(source_of(secret), LIMITS)
    assert np.array_equal(index.keyframes[:1], [0])
    for name, content in CONTAINERS.items():
        path = folder / name
        path.write_text(content.replace("SECRET", str(secret)).replace("PORT", str(port)) * 3)
        found = frames_opencv(
            LocalFile(source_of(path), "decode"),
            index,
            0,
            7,
            config=DecodeConfig(),
            notes=DecodeNotes(),
        )
        with pytest.raises(VideoError, match="OpenCV cannot open"):
            list(found)
    assert not seen


@pytest.mark.parametrize(
    "name",
    ["http://127.0.0.1:PORT/a.mp4", "concat:A|A", "subfile,,start,0,end,9,,:A", "file:A", "pipe:0"],
)
def test_25_inputs_that_name_protocols(folder, listener, name):
    port, seen = listener
    path = make(folder / "a.mp4", 5)
    given = name.replace("PORT", str(port)).replace("A", str(path))
    with pytest.raises(UsageError, match=r"no such file or folder|matches no file|is not known"):
        run(config_of(), [given], folder.parent / "out", engine="local")
    assert not seen
