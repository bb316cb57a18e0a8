"""A visitor without a browser: speaks the page's protocol over its websocket, and may send what no browser would."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

LAID_OUT = "<span class='come-laid-out'></span>"  # app.components.widgets.laid_out


@dataclass
class Shown:
    """What one run of the page's script sent.

    Attributes:
        seconds: until it had ended.
        widgets: of each element with an id, its id and label, by the key that the page gives it.
        texts: what it says, errors included.
    """

    seconds: float = 0.0
    ended: bool = False
    widgets: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class Tab:
    """One connection, which is one visit."""

    def __init__(self, url: str, address: str = "192.0.2.1") -> None:
        """`address` is where the visitor comes from, as a proxy would tell it."""
        self.url = url
        self.session = ""
        self.pages: dict[str, str] = {}
        self.known: dict[str, str] = {}  # ids of the widgets that were shown so far, by their keys
        self._hash = ""
        self._query = ""
        self._socket: ClientConnection = connect(
            url.replace("http", "ws") + "/_stcore/stream",
            subprotocols=["streamlit"],  # type: ignore[list-item]
            origin=url,  # type: ignore[arg-type]
            max_size=None,
            open_timeout=60,
            close_timeout=1,
            proxy=None,
            compression=None,
            additional_headers={"X-Forwarded-For": address},
            legacy=True,  # what closes it is __exit__
        )

    def __enter__(self) -> Tab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def open(self, page: str, query: str = "", timeout: float = 120.0) -> Shown:
        """Go to a page, by its name in the address: what it shows in the end, or after so long."""
        self._query = query
        message = BackMsg()
        message.rerun_script.query_string = query
        if page in self.pages:
            message.rerun_script.page_script_hash = self.pages[page]
        else:
            message.rerun_script.page_name = page
        return self._asked(message, timeout)

    def send(self, timeout: float = 120.0, **values: Any) -> Shown:
        """Send values of widgets that were shown, by key; ``True`` clicks a button, ``False`` clears a box."""
        return self._asked(self.forged(values), timeout)

    def forged(self, values: dict[str, Any]) -> BackMsg:
        """The message that sends these values."""
        message = BackMsg()
        message.rerun_script.query_string = self._query
        message.rerun_script.page_script_hash = self._hash
        for key, value in values.items():
            state = message.rerun_script.widget_states.widgets.add()
            state.id = self.known[key]
            if value is True:
                state.trigger_value = True
            elif value is False:
                state.bool_value = False
            elif isinstance(value, str):
                state.string_value = value
            elif isinstance(value, list):
                state.string_array_value.data.extend(value)
            else:
                state.double_value = float(value)
        return message

    def post(self, message: BackMsg) -> None:
        """Send a message and wait for nothing."""
        self._socket.send(message.SerializeToString())

    def _asked(self, message: BackMsg, timeout: float) -> Shown:
        began = time.monotonic()
        self.post(message)
        shown, begun = Shown(), False
        while (left := began + timeout - time.monotonic()) > 0:
            try:
                told = ForwardMsg.FromString(self._socket.recv(timeout=left))  # type: ignore[arg-type]
            except (TimeoutError, ConnectionClosed):
                break
            kind = told.WhichOneof("type")
            if kind == "new_session":
                self.session = told.new_session.initialize.session_id or self.session
                self._hash = told.new_session.page_script_hash
                shown, begun = Shown(), True
            elif not begun:
                continue  # of the script that this one takes the place of
            elif kind == "navigation":
                self.pages = {page.url_pathname: page.page_script_hash for page in told.navigation.app_pages}
                self._hash = told.navigation.page_script_hash or self._hash
            elif kind == "page_info_changed":
                self._query = told.page_info_changed.query_string
            elif kind == "delta" and told.delta.WhichOneof("type") == "new_element":
                self._element(told.delta.new_element, shown)
                if LAID_OUT in shown.texts[-1:]:  # it is all there; the script goes on to follow something
                    shown.ended = True
                    break
            elif kind == "script_finished" and told.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
                shown.ended = True
                break
        shown.seconds = time.monotonic() - began
        return shown

    def _element(self, element: Any, shown: Shown) -> None:
        kind = element.WhichOneof("type")
        what = getattr(element, kind)
        if (name := str(getattr(what, "id", ""))).startswith("$$ID-"):
            key = name.split("-", 2)[2]
            shown.widgets[key] = name
            shown.labels[key] = str(getattr(what, "label", ""))
            self.known = {**self.known, key: name}
        if kind == "alert":
            shown.errors.append(what.body)
        if kind == "exception":
            shown.errors.append(f"exception: {what.message}")
        for name in ("body", "label", "value"):
            if isinstance(text := getattr(what, name, None), str):
                shown.texts.append(text)

    def put(self, size: int, name: str) -> int:
        """Put a file of so many bytes to the server, asked for or not; the status that it answers."""
        direct = build_opener(ProxyHandler({}))
        with direct.open(f"{self.url}/_stcore/health", timeout=60) as answer:
            cookie = next((part for part in answer.headers.get_all("Set-Cookie") or () if "xsrf" in part), "")
        cookie = cookie.split(";")[0]
        border = b"----border"
        body = (
            b"--" + border + b'\r\nContent-Disposition: form-data; name="file"; filename="a.json"\r\n'
            b"Content-Type: application/json\r\n\r\n" + b"x" * size + b"\r\n--" + border + b"--\r\n"
        )
        kind = f"multipart/form-data; boundary={border.decode()}"
        headers = {"Content-Type": kind, "Cookie": cookie, "X-Xsrftoken": cookie.partition("=")[2]}
        where = f"{self.url}/_stcore/upload_file/{self.session}/{name}"
        request = Request(where, body, headers, method="PUT")
        try:
            with direct.open(request, timeout=60) as answer:
                return int(answer.status)
        except OSError as error:
            return int(getattr(error, "code", 0))
