"""Pages in a browser, names that a server is not known by, and proxies: what of the headers of a request is checked."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from taskmill.engine.errors import SettingsError, UnsafeBinding
from taskmill.server.http.transport_security import transport_security
from taskmill.server.settings import ServerSettings
from tests.server.api_client import ApiClient
from tests.server.session_client import open_session
from tests.support.replica import Rpc, client_of, messages
from tests.support.sample_server import make_server
from tests.support.tokens import guarded_options

PAGE = "http://localhost:6274"
"""Where the Inspector's page is served from."""
APP = "https://app.example.com"


def preflight(origin: str, method: str = "POST") -> dict[str, str]:
    asked = "authorization,content-type,mcp-method,mcp-name,mcp-param-who,mcp-protocol-version,mcp-session-id"
    return {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": asked,
    }


@pytest.fixture
async def open_to_app(redis: Redis, settings: ServerSettings) -> AsyncIterator[Rpc]:
    """A replica that pages of one origin may use."""
    async with client_of(make_server(settings), cors_origins=[APP, "https://any.no:*"]) as rpc:
        yield rpc


class TestCors:
    @pytest.mark.parametrize("path", ["/mcp", "/api/tasks/x", "/api/tasks/x/cancel"])
    async def test_a_preflight_of_an_allowed_origin_is_answered_with_204(self, open_to_app: Rpc, path: str) -> None:
        headers = preflight(APP)

        reply = await open_to_app.http.request("OPTIONS", ApiClient(open_to_app).address + path, headers=headers)

        assert (reply.status_code, reply.content) == (204, b"")
        assert reply.headers["access-control-allow-origin"] == APP
        assert reply.headers["access-control-allow-headers"] == headers["access-control-request-headers"]
        assert {"GET", "POST", "DELETE"} <= set(reply.headers["access-control-allow-methods"].split(", "))
        assert "access-control-allow-credentials" not in reply.headers

    async def test_a_preflight_of_another_origin_gets_no_permission(self, open_to_app: Rpc) -> None:
        for origin in ("https://evil.example", "null", f"{APP}.evil.example", "http://app.example.com"):
            reply = await open_to_app.http.request("OPTIONS", open_to_app.url, headers=preflight(origin))
            assert reply.status_code == 400
            assert "access-control-allow-origin" not in reply.headers

    async def test_without_the_setting_no_page_is_allowed(self, idle_rpc: Rpc) -> None:
        reply = await idle_rpc.http.request("OPTIONS", idle_rpc.url, headers=preflight(PAGE))

        assert reply.status_code != 204
        assert "access-control-allow-origin" not in reply.headers

    @pytest.mark.parametrize("port", ["", ":1", ":8443"])
    async def test_a_star_for_the_port_allows_every_port_of_that_host(self, open_to_app: Rpc, port: str) -> None:
        reply = await open_to_app.http.request("OPTIONS", open_to_app.url, headers=preflight(f"https://any.no{port}"))

        assert (reply.status_code == 204) is bool(port)

    async def test_a_page_reads_the_results_of_both_revisions_and_the_headers_of_a_session(
        self, open_to_app: Rpc
    ) -> None:
        modern = await open_to_app.post("tools/list", {}, origin=APP)
        session = await open_session(open_to_app.http, open_to_app.url)
        old = await open_to_app.http.post(
            open_to_app.url, json=session.request("ping"), headers={**session.headers(), "origin": APP}
        )

        for reply in (modern, old):
            assert reply.status_code == 200
            assert messages(reply)[0]["result"] is not None
            assert reply.headers["access-control-allow-origin"] == APP
            exposed = reply.headers["access-control-expose-headers"].split(", ")
            assert {"Mcp-Session-Id", "MCP-Protocol-Version", "Mcp-Name", "WWW-Authenticate"} <= set(exposed)

    async def test_a_page_can_read_why_it_was_refused(self, redis: Redis, settings: ServerSettings) -> None:
        async with client_of(make_server(settings, **guarded_options()), cors_origins=[APP]) as rpc:
            replies = [
                await rpc.post("tools/list", {}, origin=APP),
                await rpc.post("tools/list", {}, origin=APP, host="evil.example"),
                await rpc.http.get(ApiClient(rpc).address + "/api/tasks", headers={"origin": APP}),
            ]

        assert [reply.status_code for reply in replies] == [401, 421, 401]
        assert [reply.headers.get("access-control-allow-origin") for reply in replies] == [APP] * 3

    async def test_all_origins_may_use_a_server_that_asks_for_a_token(
        self, redis: Redis, settings: ServerSettings
    ) -> None:
        async with client_of(make_server(settings, **guarded_options()), cors_origins=["*"]) as rpc:
            token = {"authorization": "Bearer issuer/app/ada", "origin": "https://anywhere.example"}
            asked = await rpc.http.request("OPTIONS", rpc.url, headers=preflight("https://anywhere.example"))
            replies = [
                await rpc.post("tools/list", {}, **token),
                await rpc.http.get(ApiClient(rpc).address + "/api/tasks", headers=token),
            ]

        assert asked.status_code == 204
        for reply in replies:
            assert reply.status_code == 200
            assert reply.headers["access-control-allow-origin"] == "*"
            assert "access-control-allow-credentials" not in reply.headers

    def test_all_origins_are_refused_on_a_server_without_authentication(self, settings: ServerSettings) -> None:
        with pytest.raises(UnsafeBinding, match="without authentication"):
            make_server(settings).http_app(cors_origins=["*"])

    @pytest.mark.parametrize("origin", ["app.example.com", f"{APP}/path", "https://*.example.com", "http://"])
    def test_what_is_no_origin_is_refused_with_an_example(self, settings: ServerSettings, origin: str) -> None:
        with pytest.raises(SettingsError, match=r"--cors-origin https://app\.example\.com"):
            make_server(settings).http_app(cors_origins=[origin])

    async def test_an_origin_may_be_written_as_in_the_address_bar(self, redis: Redis, settings: ServerSettings) -> None:
        async with client_of(make_server(settings), cors_origins=[" HTTPS://App.Example.com/ "]) as rpc:
            assert (await rpc.http.request("OPTIONS", rpc.url, headers=preflight(APP))).status_code == 204


class TestHosts:
    async def test_a_host_name_does_not_depend_on_case(self, redis: Redis, settings: ServerSettings) -> None:
        async with client_of(make_server(settings), allowed_hosts=["Tools.Example.com"]) as rpc:
            for host in ("tools.example.com", "TOOLS.example.COM", "tools.example.com:8443"):
                replies = [
                    await rpc.post("tools/list", {}, host=host, origin=f"https://{host}"),
                    await rpc.http.get(ApiClient(rpc).address + "/api/tasks", headers={"host": host}),
                ]
                assert [reply.status_code for reply in replies] == [200, 403], host  # 403: a list needs an identity

    @pytest.mark.parametrize("path", ["/mcp", "/mcp/", "/api/tasks/x", "/api/tasks/x/", "/docs"])
    async def test_a_foreign_host_is_refused_in_words_before_anything_answers(self, idle_rpc: Rpc, path: str) -> None:
        reply = await idle_rpc.http.get(ApiClient(idle_rpc).address + path, headers={"host": "backend:8000"})

        assert reply.status_code == 421
        for words in ("'backend:8000'", "--allowed-hosts backend ", "TASKMILL_ALLOWED_HOSTS", "proxy_set_header"):
            assert words in reply.text
        assert "location" not in reply.headers

    async def test_a_refused_host_is_logged_once(self, idle_rpc: Rpc) -> None:
        with capture_logs() as logs:
            for _ in range(3):
                for method in ("tools/list", "tools/call"):
                    await idle_rpc.post(method, {}, host="logged-once.example")
            await idle_rpc.http.get(idle_rpc.url, headers={"host": "logged-once.example"})

        refused = [entry for entry in logs if entry["event"] == "host.refused"]
        assert refused == [{"event": "host.refused", "log_level": "warning", "host": "'logged-once.example'"}]

    async def test_a_refused_origin_reads_which_option_allows_it(self, idle_rpc: Rpc) -> None:
        reply = await idle_rpc.post("tools/list", {}, origin=APP)

        assert reply.status_code == 403
        assert f"--cors-origin {APP}" in reply.text

    async def test_probes_need_no_host(self, idle_rpc: Rpc) -> None:
        for path in ("/healthz", "/readyz"):
            reply = await idle_rpc.http.get(ApiClient(idle_rpc).address + path, headers={"host": "10.0.0.7:8000"})
            assert reply.status_code == 200

    @pytest.mark.parametrize("name", ["*", "*.example.com", "https://tools.example.com", "tools.example.com/mcp"])
    def test_what_is_no_host_name_is_refused_with_an_example(self, name: str) -> None:
        with pytest.raises(SettingsError, match=r"--allowed-hosts tools\.example\.com"):
            transport_security("0.0.0.0", [name])

    @pytest.mark.parametrize("name", ["::1", "[::1]", "FE80::1"])
    def test_an_ipv6_address_needs_no_brackets(self, name: str) -> None:
        allowed = transport_security("0.0.0.0", [name]).allowed_hosts

        assert allowed == [f"[{name.strip('[]').lower()}]", f"[{name.strip('[]').lower()}]:*"]
