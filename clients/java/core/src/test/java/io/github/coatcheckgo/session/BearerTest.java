package io.github.coatcheckgo.session;

import static io.github.coatcheckgo.session.Failures.kind;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.coatcheckgo.session.SessionException.Kind;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.TreeMap;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.Test;

/** Tokens in the Authorization header, for clients without cookies. */
class BearerTest {
    private static final Counter N = Counter.of("n");
    private static final RedisStore STORE = Server.store();

    private final Sessions m = new Sessions(STORE, new Config().bearer(true));

    @AfterAll
    static void close() {
        STORE.close();
    }

    private static Session begin(Sessions m, String authorization, String cookie) {
        return m.begin(cookie == null ? List.of() : List.of(cookie), authorization == null ? List.of() : List.of(authorization), () -> null);
    }

    private static TreeMap<String, List<String>> respond(Session s) {
        s.commitBeforeHeader(true);
        TreeMap<String, List<String>> lines = new TreeMap<>();
        s.writeHeaders(new Session.Headers() {
            @Override
            public void add(String name, String value) {
                lines.computeIfAbsent(name, n -> new ArrayList<>()).add(value);
            }

            @Override
            public void set(String name, String value) {
                lines.put(name, new ArrayList<>(List.of(value)));
            }

            @Override
            public Collection<String> get(String name) {
                return lines.getOrDefault(name, List.of());
            }
        });
        return lines;
    }

    private String issue() {
        Session s = begin(m, null, null).read();
        N.add(s, 1);
        String token = s.bearerToken();
        s.commitBeforeHeader(true);
        return token;
    }

    @Test
    void theHeaderOpensTheSession() {
        String token = issue();
        for (String scheme : List.of("Bearer ", "bearer ", "BEARER  ")) {
            assertEquals(1, N.get(begin(m, scheme + token, null).read()), scheme);
        }
        for (String other : List.of("Basic " + token, token, "Bearer " + token + "x", "Bearer ", "Bearer eyJhbGciOiJIUzI1NiJ9.e30.x")) {
            assertEquals("", begin(m, other, null).read().handle(), other);
        }
        Sessions cookiesOnly = new Sessions(STORE, new Config());
        assertEquals("", begin(cookiesOnly, "Bearer " + token, null).read().handle());
    }

    @Test
    void twoDifferentTokensAreRefused() {
        String token = issue();
        Session same = begin(m, "Bearer " + token, "__Host-session=" + token).read();
        assertTrue(same.isBearer());
        assertFalse(same.inCookie());
        for (String cookie : List.of("__Host-session", "__Host-session-anon")) {
            Session s = begin(m, "Bearer " + token, cookie + "=" + issue());
            assertEquals(Kind.AMBIGUOUS, kind(s::read));
            assertFalse(s.deletesToken(), "the cookie may be another program's");
        }
        Session two = m.begin(List.of(), List.of("Bearer " + token, "Bearer " + issue()), () -> null);
        assertEquals(Kind.AMBIGUOUS, kind(two::read));
    }

    @Test
    void aTokenThatIsHandedOutSetsNoCookieAndIsNotCached() {
        Session s = begin(m, null, null).read();
        N.add(s, 1);
        String token = s.bearerToken();
        TreeMap<String, List<String>> h = respond(s);
        assertNull(h.get("Set-Cookie"));
        assertEquals(List.of("no-store"), h.get("Cache-Control"));
        assertEquals(List.of("Cookie", "Authorization"), h.get("Vary"));
        assertEquals(1, N.get(begin(m, "Bearer " + token, null).read()));
        Session dead = begin(m, null, "__Host-session=made-up").read();
        dead.bearerToken();
        assertTrue(respond(dead).get("Set-Cookie").get(0).contains("Max-Age=0"));
    }

    @Test
    void aTokenOfACookieIsHandedOutOnlyRenewed() {
        String token = issue();
        Session s = begin(m, null, "__Host-session=" + token).read();
        assertThrows(IllegalStateException.class, s::bearerToken);
        s.renew();
        String renewed = s.bearerToken();
        s.commitBeforeHeader(true);
        assertNull(s.newToken());
        assertEquals(1, N.get(begin(m, "Bearer " + renewed, null).read()));
        assertThrows(IllegalStateException.class, () -> begin(new Sessions(STORE, new Config()), null, null).read().bearerToken());
    }

    @Test
    void aChangeUnderADeadTokenIsRefused() {
        Session first = begin(m, "Bearer " + issue(), null).read();
        String dead = first.bearerToken();
        first.signOut();
        Session s = begin(m, "Bearer " + dead, null).read();
        N.add(s, 1);
        assertEquals(Kind.NOT_SIGNED_IN, kind(() -> s.commitBeforeHeader(true)));
        assertNull(s.newToken());
    }

    @Test
    void signingInAndRenewingWithABearerTokenSetNoCookie() {
        Session s = begin(m, "Bearer " + issue(), null).read();
        s.signIn(Login.user("ann"));
        String token = s.bearerToken();
        assertNull(respond(s).get("Set-Cookie"));
        Session renewed = begin(m, "Bearer " + token, null).read();
        assertEquals("ann", renewed.user());
        renewed.renew();
        token = renewed.bearerToken();
        assertNull(respond(renewed).get("Set-Cookie"));
        assertEquals("ann", begin(m, "Bearer " + token, null).read().user());
    }

    @Test
    void aBearerTokenDoesNotRotate() throws InterruptedException {
        Sessions rotating = new Sessions(STORE, new Config().bearer(true));
        rotating.config.rotateEvery = Duration.ofMillis(1);
        String token = issue();
        Thread.sleep(3); // the server's clock: the token gets old
        Session s = begin(rotating, "Bearer " + token, null).read();
        s.commitBeforeHeader(true);
        assertNull(s.newToken());
        String key = SessionId.parse(s.handle()).key(STORE.namespace);
        assertFalse(Server.hash(key).containsKey("@previous"), "the store has no new token either");
        Session cookie = begin(rotating, null, "__Host-session=" + token).read();
        cookie.commitBeforeHeader(true);
        assertFalse(cookie.newToken() == null, "in a cookie it does");
    }
}
