package io.github.coatcheckgo.session;

import static io.github.coatcheckgo.session.Failures.kind;
import static io.github.coatcheckgo.session.Waiting.await;
import static io.github.coatcheckgo.session.Waiting.eventually;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.coatcheckgo.session.SessionException.Kind;
import io.github.coatcheckgo.testkit.RedisServer;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.Test;

/** A server that goes away, comes back, answers late, or forgets. */
class OutageTest {
    private static final Counter N = Counter.of("n");

    private static final Duration TIMEOUT = Duration.ofMinutes(2);

    private static RedisStore open(RedisServer server) {
        return RedisStore.open(server.url(), "coatcheck", TIMEOUT);
    }

    private static Object command(RedisServer server, Object... words) {
        try (Connection c = new Connection(server.url(), Duration.ofSeconds(60))) {
            return Server.on(c, false, words);
        }
    }

    private static String begin(Sessions m) {
        Session s = m.begin((String) null).read();
        N.add(s, 1);
        s.commitBeforeHeader(true);
        return s.newToken();
    }

    @Test
    void aServerThatIsGoneIsAnErrorAtOnceAndComesBack() {
        try (RedisServer server = RedisServer.start(); RedisStore store = open(server)) {
            Sessions m = new Sessions(store, new Config());
            String token = begin(m);
            server.down();
            // It notices that the connection is lost
            await(() -> kind(() -> m.begin(token).read()) == Kind.UNAVAILABLE);
            long began = System.nanoTime();
            for (int i = 0; i < 3; i++) {
                assertEquals(Kind.UNAVAILABLE, kind(() -> m.begin(token).read()));
            }
            long taken = System.nanoTime() - began;
            assertTrue(taken < TIMEOUT.toNanos(), "none of the three requests has waited for the timeout");
            assertTrue(store.patience.toMillis() < 1_000, "they wait for this long");
            server.up();
            assertEquals("", eventually(() -> m.begin(token).read().handle()));
        }
    }

    @Test
    void aProcessStartsWhileTheServerIsDown() {
        try (RedisServer server = RedisServer.start()) {
            server.down();
            try (RedisStore store = open(server)) {
                Sessions m = new Sessions(store, new Config());
                Session s = m.begin((String) null).read();
                N.add(s, 1);
                assertEquals(Kind.UNAVAILABLE, kind(() -> s.commitBeforeHeader(true)));
                server.up();
                assertTrue(eventually(() -> begin(m)).length() > 50);
            }
        }
    }

    @Test
    void aConnectionThatGoesSilentIsReplaced() throws java.io.IOException {
        try (RedisServer server = RedisServer.start(); SilentProxy proxy = new SilentProxy(server.port);
            RedisStore store = RedisStore.open(proxy.url(), "silent", Duration.ofSeconds(2))) {
            Sessions m = new Sessions(store, new Config());
            String token = eventually(() -> begin(m));
            proxy.silence();
            assertEquals(Kind.UNKNOWN_OUTCOME, kind(() -> m.begin(token).read()));
            assertEquals(1, eventually(() -> N.get(m.begin(token).read())));
        }
    }

    @Test
    void anAdditionThatGotNoReplyInTimeIsNotSentAgain() {
        try (RedisServer server = RedisServer.start(); Connection admin = new Connection(server.url(), Duration.ofSeconds(60));
            RedisStore store = RedisStore.open(server.url(), "late", Duration.ofSeconds(2))) {
            Sessions m = new Sessions(store, new Config());
            String token = eventually(() -> begin(m));
            eventually(() -> { // the server has the script
                Session first = m.begin(token).read();
                N.add(first, 1);
                first.commitBeforeHeader(true);
                return first;
            });
            Session late = eventually(() -> m.begin(token).read());
            long before = N.get(late);
            Server.on(admin, false, "CLIENT", "PAUSE", "60000", "WRITE");
            N.add(late, 1);
            assertEquals(Kind.UNKNOWN_OUTCOME, kind(() -> late.commitBeforeHeader(true)));
            Server.on(admin, false, "CLIENT", "UNPAUSE");
            await(() -> eventually(() -> N.get(m.begin(token).read())) > before);
            assertEquals(before + 1, eventually(() -> N.get(m.begin(token).read())));
        }
    }

    @Test
    void anAdditionOnABrokenConnectionIsNotSentAgain() throws java.io.IOException {
        try (RedisServer server = RedisServer.start(); SilentProxy proxy = new SilentProxy(server.port);
            RedisStore direct = RedisStore.open(server.url(), "broken", TIMEOUT);
            RedisStore store = RedisStore.open(proxy.url(), "broken", TIMEOUT)) {
            store.patience = TIMEOUT; // a repetition would find the new connection
            Sessions m = new Sessions(store, new Config());
            Sessions other = new Sessions(direct, new Config());
            String token = begin(m);
            Session first = m.begin(token).read();
            N.add(first, 1);
            first.commitBeforeHeader(true); // the server has the script
            Session broken = m.begin(token).read();
            N.add(broken, 1);
            proxy.loseReplies();
            CompletableFuture<Kind> outcome = CompletableFuture.supplyAsync(() -> kind(() -> broken.commitBeforeHeader(true)));
            await(() -> N.get(other.begin(token).read()) == 3); // the addition ran
            proxy.redirect(server.port);
            assertEquals(Kind.UNKNOWN_OUTCOME, outcome.join());
            assertEquals(3, eventually(() -> N.get(m.begin(token).read()))); // on a new connection
        }
    }

    @Test
    void aSignInWhoseReplyWasLostHasSucceededAlthoughAnotherOneEndedItsSession() throws java.io.IOException {
        try (RedisServer server = RedisServer.start(); SilentProxy proxy = new SilentProxy(server.port);
            RedisStore direct = RedisStore.open(server.url(), "exists", TIMEOUT);
            RedisStore store = RedisStore.open(proxy.url(), "exists", TIMEOUT)) {
            store.patience = TIMEOUT; // a busy machine connects again later
            Sessions m = new Sessions(store, new Config().maxPerUser(1));
            Sessions other = new Sessions(direct, new Config().maxPerUser(1));
            Session first = m.begin((String) null).read();
            first.signIn(Login.user("ann")); // the server has the scripts
            Session s = m.begin((String) null).read();
            proxy.loseRepliesFrom(Script.of("signin.lua").sha1());
            CompletableFuture<Void> done = CompletableFuture.runAsync(() -> s.signIn(Login.user("ann")));
            await(() -> !other.sessions("ann").get(0).handle().equals(first.handle())); // the script ran
            String handle = other.sessions("ann").get(0).handle();
            other.begin((String) null).read().signIn(Login.user("ann"));
            String key = SessionId.parse(handle).key("exists");
            assertEquals(1L, command(server, "HEXISTS", key, "@ended"), "so the repetition gets the reply exists");
            proxy.redirect(server.port);
            done.join();
            assertEquals("ann", s.user());
            assertEquals(handle, s.handle());
            assertEquals(1L, command(server, "HEXISTS", key, "@ended"), "nothing brings the session back");
            assertEquals(1, other.sessions("ann").size());
        }
    }

    @Test
    void lostScriptsAreSentAgain() {
        try (RedisServer server = RedisServer.start(); RedisStore store = open(server)) {
            Sessions m = new Sessions(store, new Config());
            String token = begin(m);
            for (int i = 0; i < 3; i++) {
                command(server, "SCRIPT", "FLUSH");
                Session s = m.begin(token).read();
                N.add(s, 1);
                s.commitBeforeHeader(true);
            }
            assertEquals(4, N.get(m.begin(token).read()));
        }
    }

    @Test
    void anEndThatAFailoverHasUndoneIsRepeated() {
        try (RedisServer server = RedisServer.start(); RedisStore store = open(server)) {
            Sessions m = new Sessions(store, new Config());
            Session s = m.begin((String) null).read();
            s.signIn(Login.user("ann"));
            s.commitBeforeHeader(true);
            String token = s.newToken();
            String key = SessionId.parse(s.handle()).key("coatcheck");
            String copy = "local d=redis.call('HGETALL',KEYS[1]) redis.call('DEL',KEYS[1]..'copy') redis.call('HSET',KEYS[1]..'copy',unpack(d))";
            command(server, "EVAL", copy, "1", key);
            m.begin(token).signOut();
            String back = "redis.call('DEL',KEYS[1]) return redis.call('RENAME',KEYS[1]..'copy',KEYS[1])";
            command(server, "EVAL", back, "1", key);
            assertEquals("", m.begin(token).read().user(), "this process refuses it at once");
            await(() -> command(server, "EXISTS", key).equals(0L));
        }
    }

    @Test
    void aRevocationThatAFailoverHasUndoneIsRepeated() {
        try (RedisServer server = RedisServer.start(); RedisStore store = open(server)) {
            Sessions m = new Sessions(store, new Config());
            m.revokeUser("ann", List.of());
            String n = new SessionId(String.format("%04x", Keys.bucket(new Keys(List.of(), null).owner(Texts.bytes("ann")))), "").revocationsKey("coatcheck");
            command(server, "DEL", n);
            await(() -> command(server, "EXISTS", n).equals(1L));
            m.revokeAll();
            String token = begin(m);
            command(server, "DEL", "coatcheck:revoked");
            m.begin(token).read(); // a read finds that it is lost
            await(() -> command(server, "EXISTS", "coatcheck:revoked").equals(1L));
        }
    }

    @Test
    void aUserSignsInRightAfterAnOwnRevocation() {
        try (RedisServer server = RedisServer.start(); RedisStore store = open(server)) {
            Sessions m = new Sessions(store, new Config());
            for (int i = 0; i < 20; i++) {
                Session s = m.begin((String) null).read();
                m.revokeUser("ann", List.of());
                assertEquals(Kind.REVOKED, kind(() -> s.signIn(Login.user("ann"))), "it began before");
                s.signIn(Login.user("ann").began(java.time.Instant.now()));
                assertEquals("ann", s.user());
            }
        }
    }
}
