package io.github.coatcheckgo.session;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.coatcheckgo.session.SessionException.Kind;
import io.github.coatcheckgo.testkit.RedisServer;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import org.junit.jupiter.api.Test;

/** A primary that dies, and a replica that takes over. */
class FailoverTest {
    private static final Counter N = Counter.of("n");

    private static Object command(RedisServer server, Object... words) {
        try (Connection c = new Connection(server.url(), Duration.ofSeconds(60))) {
            return Server.on(c, false, words);
        }
    }

    private static void await(String what, BooleanSupplier condition) throws InterruptedException {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(300);
        while (!condition.getAsBoolean()) {
            assertTrue(System.nanoTime() < deadline, "it did not happen within 300 s: " + what);
            Thread.sleep(20); // between questions to other processes
        }
    }

    private static boolean works(Runnable body) {
        try {
            body.run();
            return true;
        } catch (SessionException e) {
            assertTrue(e.isUnavailable(), e.toString());
            return false;
        }
    }

    private static void awaitReplica(RedisServer primary) throws InterruptedException {
        await("a replica is there", () -> ((String) command(primary, "INFO", "replication")).contains("state=online"));
    }

    private static String signIn(Sessions m, String user) {
        Session s = m.begin((String) null).read();
        N.add(s, 1);
        s.signIn(Login.user(user));
        s.commitBeforeHeader(true);
        return s.newToken();
    }

    @Test
    void anEndThatThePromotedReplicaLacksIsRefusedAndRepeated() throws Exception {
        try (RedisServer primary = RedisServer.start(); RedisServer replica = primary.replica(); SilentProxy proxy = new SilentProxy(primary.port);
            RedisStore store = RedisStore.open(proxy.url(), "coatcheck", Duration.ofSeconds(60))) {
            awaitReplica(primary);
            Sessions m = new Sessions(store, new Config());
            String token = signIn(m, "ann");
            String key = SessionId.parse(m.begin(token).read().handle()).key("coatcheck");
            await("the replica has the session", () -> command(replica, "EXISTS", key).equals(1L));
            command(replica, "REPLICAOF", "NO", "ONE"); // what follows is lost
            m.begin(token).signOut();
            assertEquals("hash", command(replica, "TYPE", key), "the replica has the session, and not its end");
            assertEquals(1L, command(replica, "HEXISTS", key, "@s"));
            primary.down();
            proxy.redirect(replica.port);
            assertEquals("", m.begin(token).read().user(), "this process knows the end");
            await("the store works again", () -> works(() -> signIn(m, "bob")));
            await("the end is repeated", () -> command(replica, "EXISTS", key).equals(0L));
            assertEquals(List.of(), m.sessions("ann"));
        }
    }

    @Test
    void sentinelPromotesAReplicaAndTheStoreFollows() throws Exception {
        try (RedisServer primary = RedisServer.start(); RedisServer replica = primary.replica(); RedisServer sentinel = primary.sentinel("shop")) {
            awaitReplica(primary);
            await("Sentinel knows the replica", () -> ((String) command(sentinel, "INFO", "sentinel")).contains("slaves=1"));
            String url = "redis-sentinel://127.0.0.1:" + sentinel.port + "/0#shop";
            try (RedisStore store = RedisStore.open(url, "coatcheck", Duration.ofSeconds(60))) {
                Sessions m = new Sessions(store, new Config());
                String token = signIn(m, "ann");
                awaitReplicated(primary, replica);
                command(sentinel, "SENTINEL", "SET", "shop", "down-after-milliseconds", "500");
                primary.down();
                await("the replica is promoted, and the store writes there", () -> works(() -> {
                    Session s = m.begin(token).read();
                    assertEquals("ann", s.user());
                    N.add(s, 1);
                    s.commitBeforeHeader(true);
                }));
                assertTrue(((String) command(replica, "INFO", "replication")).contains("role:master"));
                assertTrue(N.get(m.begin(token).read()) >= 2);
            }
        }
    }

    private static void awaitReplicated(RedisServer primary, RedisServer replica) throws InterruptedException {
        await("the replica has all writes", () -> offset(primary).equals(offset(replica)));
    }

    private static String offset(RedisServer server) {
        return ((String) command(server, "INFO", "replication")).replaceAll("(?s).*master_repl_offset:(\\d+).*", "$1");
    }

    @Test
    void anEndWaitsForReplicas() throws InterruptedException {
        try (RedisServer primary = RedisServer.start(); RedisServer replica = primary.replica();
            RedisStore store = RedisStore.open(primary.url(), "coatcheck", Duration.ofSeconds(60)).replicas(1, Duration.ofSeconds(30))) {
            awaitReplica(primary);
            Sessions m = new Sessions(store, new Config());
            String token = signIn(m, "ann");
            String key = SessionId.parse(m.begin(token).read().handle()).key("coatcheck");
            m.begin(token).signOut();
            assertEquals(0L, command(replica, "HEXISTS", key, "@s"), "the replica has the end before the call returns");
            signIn(m, "bob");
            assertEquals(1, m.revokeUser("bob", List.of()));
            m.revokeAll();
            assertEquals(1L, command(replica, "EXISTS", "coatcheck:revoked"));
        }
    }

    @Test
    void anEndThatTooFewReplicasHaveSaysSo() {
        try (RedisServer alone = RedisServer.start();
            RedisStore store = RedisStore.open(alone.url(), "coatcheck", Duration.ofSeconds(60)).replicas(1, Duration.ofMillis(50))) {
            Sessions m = new Sessions(store, new Config());
            String token = signIn(m, "ann");
            SessionException out = assertThrows(SessionException.class, () -> m.begin(token).signOut());
            assertTrue(out.isUnavailable() && out.getMessage().contains("0 of 1 replicas"), out.getMessage());
            assertEquals("", m.begin(token).read().user(), "it is done nevertheless");
            signIn(m, "bob");
            assertEquals(Kind.UNKNOWN_OUTCOME, assertThrows(SessionException.class, () -> m.revokeUser("bob", List.of())).kind());
            assertEquals(List.of(), m.sessions("bob"));
            assertEquals(Kind.UNKNOWN_OUTCOME, assertThrows(SessionException.class, m::revokeAll).kind());
            assertThrows(IllegalArgumentException.class, () -> store.replicas(1, Duration.ofSeconds(60)));
        }
    }
}
