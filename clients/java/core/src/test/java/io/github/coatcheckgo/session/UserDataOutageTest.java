package io.github.coatcheckgo.session;

import static io.github.coatcheckgo.session.Failures.kind;
import static io.github.coatcheckgo.session.Waiting.await;
import static io.github.coatcheckgo.session.Waiting.eventually;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.coatcheckgo.session.SessionException.Kind;
import io.github.coatcheckgo.testkit.RedisServer;
import java.io.IOException;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.Test;

/** The data of users, on a server that goes away, or whose replies are lost. */
class UserDataOutageTest {
    private static final Counters CART = Counters.of("cart");
    private static final Counter N = Counter.of("n"); // of the session
    private static final Duration TIMEOUT = Duration.ofMinutes(2);

    /** A server behind a proxy, and a client that reaches it directly. */
    private static final class Setup implements AutoCloseable {
        final RedisServer server = RedisServer.start();
        final SilentProxy proxy = new SilentProxy(server.port);
        final RedisStore store;
        final RedisStore direct;
        final Sessions m;
        final Sessions other;

        Setup(Duration timeout) throws IOException {
            store = RedisStore.open(proxy.url(), "shop", timeout);
            direct = RedisStore.open(server.url(), "shop", TIMEOUT);
            store.patience = TIMEOUT; // a busy machine connects again later
            Config c = new Config().userFields(CART);
            m = new Sessions(store, c);
            other = new Sessions(direct, c);
            Session s = signedIn("warm"); // the server has the scripts
            for (int i = 0; i < 2; i++) {
                CART.add(s.userData(), "apple", 1);
                s.userData().commit();
            }
            CART.add(s, "apple", 1);
            s.commit();
            s.userData();
        }

        Session signedIn(String user) {
            Session s = m.begin((String) null).read();
            s.signIn(Login.user(user));
            return s;
        }

        Map<String, Long> cart() {
            return CART.all(other.userData("ann"));
        }

        /** Makes the call, and loses the replies to the script. Then a new connection is there. */
        CompletableFuture<Void> losing(String script, Map<String, Long> cartAfter, Runnable call) throws IOException {
            proxy.loseRepliesFrom(Script.of(script).sha1());
            CompletableFuture<Void> done = CompletableFuture.runAsync(call);
            await(() -> cart().equals(cartAfter)); // the script ran
            proxy.redirect(server.port);
            return done;
        }

        /** Makes the call, loses the replies to the script, and interrupts the call then. */
        void givingUp(String script, Map<String, Long> cartAfter, Runnable call) throws Exception {
            proxy.loseRepliesFrom(Script.of(script).sha1());
            Thread thread = new Thread(call);
            thread.start();
            await(() -> cart().equals(cartAfter)); // the script ran
            thread.interrupt();
            thread.join();
            redirect(server.port);
            eventually(() -> m.userData("warm")); // on a new connection
        }

        /** Leads to this port, while the client sends nothing. */
        void redirect(int port) throws Exception {
            proxy.redirect(port);
            Thread.sleep(300); // what is sent while a connection closes may wait for the timeout
        }

        @Override
        public void close() throws IOException {
            store.close();
            direct.close();
            proxy.close();
            server.close();
        }
    }

    @Test
    void aCreationWhoseReplyWasLostIsMadeOnce() throws IOException {
        try (Setup t = new Setup(TIMEOUT)) {
            Session s = t.signedIn("ann");
            CART.add(s.userData(), "apple", 2);
            t.losing("create.lua", Map.of("apple", 2L), () -> s.commitBeforeHeader(true)).join();
            assertEquals(Map.of("apple", 2L), t.cart());
        }
    }

    @Test
    void aCreationThatOthersChangeBeforeItIsRepeatedKeepsTheirChange() throws IOException {
        try (Setup t = new Setup(TIMEOUT)) {
            Session s = t.signedIn("ann");
            Data d = s.userData();
            CART.add(d, "apple", 2);
            t.proxy.loseRepliesFrom(Script.of("create.lua").sha1());
            CompletableFuture<Void> done = CompletableFuture.runAsync(d::commit);
            await(() -> t.cart().equals(Map.of("apple", 2L)));
            UserData elsewhere = t.other.userData("ann");
            CART.add(elsewhere, "pear", 1);
            elsewhere.commit();
            t.proxy.redirect(t.server.port);
            done.join();
            assertEquals(Map.of("apple", 2L, "pear", 1L), CART.all(d));
            assertEquals(Map.of("apple", 2L, "pear", 1L), t.cart());
        }
    }

    @Test
    void aChangeAfterACreationOfUnknownOutcomeIsNoRepetitionOfIt() throws Exception {
        try (Setup t = new Setup(Duration.ofSeconds(20))) {
            Session s = t.signedIn("ann");
            Data d = s.userData();
            CART.add(d, "apple", 2);
            CompletableFuture<Kind> outcome = new CompletableFuture<>();
            t.givingUp("create.lua", Map.of("apple", 2L), () -> outcome.complete(kind(d::commit)));
            assertEquals(Kind.UNKNOWN_OUTCOME, outcome.join());
            d.discard();
            CART.add(d, "apple", 5);
            d.commit();
            assertEquals(Map.of("apple", 7L), t.cart());
        }
    }

    @Test
    void anAdditionWhoseReplyWasLostIsNotSentAgain() throws IOException {
        try (Setup t = new Setup(TIMEOUT)) {
            Session s = t.signedIn("ann");
            CART.add(s.userData(), "apple", 1);
            s.userData().commit();
            CART.add(s.userData(), "apple", 2);
            CompletableFuture<Kind> outcome = new CompletableFuture<>();
            t.losing("apply.lua", Map.of("apple", 3L), () -> outcome.complete(kind(() -> s.commitBeforeHeader(true)))).join();
            assertEquals(Kind.UNKNOWN_OUTCOME, outcome.join());
            assertEquals(Map.of("apple", 3L), t.cart());
            assertEquals(Map.of("apple", 3L), eventually(() -> CART.all(t.m.userData("ann"))));
        }
    }

    @Test
    void aJoinWhoseReplyWasLostCountsOnce() throws IOException {
        for (boolean atSignIn : new boolean[] {true, false}) {
            try (Setup t = new Setup(TIMEOUT)) {
                Session s = t.m.begin((String) null).read();
                if (!atSignIn) {
                    s.signIn(Login.user("ann"));
                }
                CART.add(s, "apple", 2);
                s.commit();
                Runnable join = atSignIn ? () -> s.signIn(Login.user("ann")) : s::userData;
                t.losing("join.lua", Map.of("apple", 2L), join).join();
                assertEquals(Map.of("apple", 2L), CART.all(s.userData()));
                assertEquals(Map.of(), CART.all(s));
                assertEquals(Map.of("apple", 2L), t.cart());
            }
        }
    }

    @Test
    void aJoinOfUnknownOutcomeIsRepeatedByTheNextCall() throws Exception {
        try (Setup t = new Setup(Duration.ofSeconds(20))) {
            Session s = t.m.begin((String) null).read();
            CART.add(s, "apple", 2);
            s.commit();
            CompletableFuture<String> user = new CompletableFuture<>();
            t.givingUp("join.lua", Map.of("apple", 2L), () -> {
                s.signIn(Login.user("ann"));
                user.complete(s.user());
            });
            assertEquals("ann", user.join());
            assertEquals(Map.of("apple", 2L), CART.all(s), "it does not know");
            assertEquals(Map.of("apple", 2L), CART.all(s.userData()));
            assertEquals(Map.of(), CART.all(s));
            assertEquals(Map.of("apple", 2L), t.cart());
        }
    }

    @Test
    void aServerThatIsGoneIsNoEmptyCart() throws Exception {
        try (Setup t = new Setup(TIMEOUT)) {
            Session s = t.signedIn("ann");
            Data d = s.userData();
            CART.add(d, "apple", 2);
            d.commit();
            Session next = t.signedIn("ann");
            next.commitBeforeHeader(true);
            Session r = t.m.begin(next.newToken()).read();
            t.store.patience = Duration.ofMillis(300);
            t.redirect(1);
            assertTrue(assertThrows(SessionException.class, r::userData).isUnavailable());
            assertTrue(assertThrows(SessionException.class, () -> t.m.userData("ann")).isUnavailable());
            N.add(r, 1);
            assertTrue(assertThrows(SessionException.class, r::commit).isUnavailable());
            t.redirect(t.server.port);
            r.discard();
            assertEquals(Map.of("apple", 2L), eventually(() -> CART.all(r.userData())));
        }
    }

    @Test
    void aServerThatIsGoneBetweenTheTwoCommitsIsAnError() throws Exception {
        try (Setup t = new Setup(TIMEOUT)) {
            Session first = t.signedIn("ann");
            first.commitBeforeHeader(true);
            Session s = t.m.begin(first.newToken()).read();
            N.add(s, 1);
            CART.add(s.userData(), "apple", 2);
            s.commit();
            t.store.patience = Duration.ofMillis(300);
            t.redirect(1);
            SessionException e = assertThrows(SessionException.class, () -> s.commitBeforeHeader(true));
            assertEquals(Kind.UNAVAILABLE, e.kind(), "nothing of the data was sent");
            assertEquals(1, N.get(t.other.begin(first.newToken()).read()));
            assertEquals(Map.of(), t.cart());
        }
    }
}
