package io.github.coatcheckgo.session;

import static io.github.coatcheckgo.session.Failures.kind;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.coatcheckgo.session.SessionException.Kind;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.function.Consumer;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;

/** What the contract suite does not say about the data of users. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class UserDataTest {
    private static final Counters CART = Counters.of("cart");
    private static final Value<String> THEME = Value.of("theme");
    private static final Value<String> LANG = Value.of("lang"); // of the session

    private final RedisStore store = Server.store();
    private final Sessions m = new Sessions(store, shop());
    private int users;
    private String user; // no other test has it

    private static Config shop() {
        return new Config().userFields(CART, THEME);
    }

    private static Config sealing(int key) {
        byte[] bytes = new byte[32];
        bytes[0] = (byte) key;
        return shop().keys(List.of(bytes)).userKey(new byte[32]).seal(true);
    }

    @BeforeEach
    void nextUser() {
        user = "user" + users++;
    }

    @AfterAll
    void close() {
        store.close();
    }

    /** A session of the user, in a request of its own. */
    private Session signedIn(Sessions of) {
        Session s = of.begin((String) null).read();
        s.signIn(Login.user(user));
        s.commitBeforeHeader(true);
        return of.begin(s.newToken()).read();
    }

    private Session signedIn() {
        return signedIn(m);
    }

    /** Changes the user's data as another program does. */
    private void elsewhere(Consumer<Data> change) {
        UserData data = m.userData(user);
        change.accept(data);
        data.commit();
    }

    private Map<String, Long> cart() {
        return CART.all(m.userData(user));
    }

    private String key(Sessions of) {
        return SessionId.dataKey(store.namespace, of.keys.owner(Texts.bytes(user)));
    }

    private String keyOf(Session s) {
        return SessionId.parse(s.handle()).key(store.namespace);
    }

    @Test
    void aRequestHasOneViewOfTheData() {
        Session s = signedIn();
        Data d = s.userData();
        CART.add(d, "apple", 1);
        assertSame(d, s.userData());
        assertEquals(Map.of("apple", 1L), CART.all(s.userData()));
        assertEquals(user, d.user());
        assertEquals(Map.of(), cart(), "it is not committed");
        s.commitBeforeHeader(true);
        assertEquals(Map.of("apple", 1L), cart());
        assertEquals(1, m.sessions(user).size());
    }

    @Test
    void afterAnotherSignInTheDataOfTheUserBeforeTakesNoChanges() {
        Session s = signedIn();
        Data first = s.userData();
        CART.add(first, "apple", 1);
        s.signIn(Login.user(user + "b"));
        assertEquals(Map.of("apple", 1L), cart(), "the sign-in has committed it");
        Data second = s.userData();
        assertEquals(Map.of(), CART.all(second));
        CART.add(second, "fig", 1);
        second.commit();
        CART.add(first, "pear", 1);
        assertEquals(Kind.ENDED, kind(() -> s.commitBeforeHeader(true)));
        assertEquals(Map.of("apple", 1L), cart());
        assertEquals(Map.of("fig", 1L), CART.all(m.userData(user + "b")));
    }

    @Test
    void anEndedSessionDoesNotChangeTheData() {
        elsewhere(d -> {
            CART.add(d, "apple", 1);
            THEME.set(d, "dark");
        });
        List<Consumer<Data>> changes = List.of(
            d -> CART.add(d, "apple", 10),
            d -> {
                CART.add(d, "apple", 10);
                d.commit();
            },
            d -> THEME.update(d, t -> "light"), THEME::take, d -> CART.addWithin(d, "apple", 1, 0, 9, 9), Data::clear);
        for (Consumer<Data> change : changes) {
            pause(); // a sign-in in the millisecond of a revocation is refused
            Session s = signedIn();
            Data d = s.userData();
            m.revokeUser(user, List.of());
            assertEquals(Kind.ENDED, kind(() -> {
                change.accept(d);
                s.commitBeforeHeader(true);
            }));
            assertTrue(s.isOver());
            assertEquals(Map.of("apple", 1L), cart());
            assertEquals("dark", THEME.get(m.userData(user), ""));
        }
    }

    private static void pause() {
        try {
            Thread.sleep(3);
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    @Test
    void afterASignOutTheDataTakesNoChanges() {
        Session s = signedIn();
        Data d = s.userData();
        CART.add(d, "apple", 1);
        s.signOut();
        assertSame(s, s.userData());
        s.commitBeforeHeader(true);
        CART.add(d, "pear", 1);
        assertEquals(Kind.ENDED, kind(d::commit));
        assertEquals(Map.of(), cart());
    }

    @Test
    void theSessionIsCommittedFirst() {
        Session s = signedIn();
        CART.add(s.userData(), "apple", 1);
        LANG.set(s, "x".repeat(70_000));
        assertEquals(Kind.TOO_LARGE, kind(() -> s.commitBeforeHeader(true)));
        assertEquals(Map.of(), cart());
        Session t = signedIn();
        CART.add(t.userData(), "apple", 1);
        LANG.set(t, "en");
        Server.command("SET", key(m), "hostile");
        assertEquals(Kind.UNAVAILABLE, kind(() -> t.commitBeforeHeader(true)));
        Server.command("DEL", key(m));
        assertEquals(Map.of(), cart());
        assertEquals(1, m.sessions(user).stream().filter(i -> i.handle().equals(t.handle())).count());
        assertEquals("\"en\"", Server.hash(keyOf(t)).get("lang"));
    }

    @Test
    void aHandlerThatKnowsOfTheErrorMayAnswerItself() {
        Session s = signedIn();
        Data d = s.userData();
        m.revokeUser(user, List.of());
        CART.add(d, "apple", 1);
        assertEquals(Kind.ENDED, kind(d::commit));
        assertEquals(Kind.ENDED, kind(() -> s.commitBeforeHeader(true)));
        assertTrue(s.wasReported());
    }

    @Test
    void whatFailsDropsTheChangesOfTheData() {
        Session s = signedIn();
        Data d = s.userData();
        CART.add(d, "apple", 1);
        s.discard();
        CART.add(d, "pear", 1);
        s.commitBeforeHeader(true);
        assertEquals(Map.of("pear", 1L), cart());
        CART.add(d, "plum", 1);
        s.abandon(new SessionException(Kind.INVALID, "the handler failed"));
        assertThrows(SessionException.class, d::commit);
        assertEquals(Map.of("pear", 1L), cart());
        Session t = signedIn();
        t.abandon(new SessionException(Kind.INVALID, "the handler failed"));
        Data late = t.userData();
        CART.add(late, "plum", 1);
        assertThrows(SessionException.class, late::commit);
        assertEquals(Map.of("pear", 1L), cart());
    }

    @Test
    void reloadReadsTheDataAgain() {
        Session s = signedIn();
        Data d = s.userData();
        CART.add(d, "plum", 1);
        elsewhere(e -> CART.add(e, "apple", 1));
        s.reload();
        assertEquals(Map.of("apple", 1L), CART.all(d));
        Server.command("DEL", key(m));
        d.reload();
        assertEquals(Map.of(), CART.all(d));
    }

    // Creation and expiry.

    @Test
    void dataThatExpiresAfterTheReadIsStoredAnew() {
        Sessions sealed = new Sessions(store, sealing(1));
        List<Consumer<Data>> changes = List.of(d -> THEME.set(d, "new"), d -> THEME.update(d, t -> "new"), d -> {
            THEME.set(d, "old");
            d.commit();
            Server.command("DEL", key(sealed));
            THEME.set(d, "new");
        });
        for (Consumer<Data> change : changes) {
            nextUser();
            UserData first = sealed.userData(user);
            THEME.set(first, "old");
            CART.add(first, "apple", 5);
            first.commit();
            String id = Server.hash(key(sealed)).get("@l").substring(0, 22);
            Session s = signedIn(sealed);
            Data d = s.userData();
            CART.add(d, "apple", 1);
            Server.command("DEL", key(sealed));
            change.accept(d);
            s.commitBeforeHeader(true);
            Map<String, String> stored = Server.hash(key(sealed));
            assertNotEquals(id, stored.get("@l").substring(0, 22), "another creation has another id");
            assertFalse(stored.get("theme").contains("new"));
            assertEquals("new", THEME.get(sealed.userData(user), ""));
        }
    }

    @Test
    void aSealedValueOpensInDataThatOthersHaveCreatedAnew() {
        Sessions sealed = new Sessions(store, sealing(1));
        UserData slow = sealed.userData(user);
        CART.add(slow, "apple", 5);
        slow.commit();
        THEME.set(slow, "dark");
        Server.command("DEL", key(sealed));
        UserData other = sealed.userData(user);
        CART.add(other, "pear", 1);
        other.commit();
        slow.commit();
        UserData now = sealed.userData(user);
        assertEquals(Map.of("pear", 1L), CART.all(now));
        assertEquals("dark", THEME.get(now, ""));
    }

    @Test
    void whatHasExpiredIsNotThere() {
        elsewhere(d -> {
            THEME.set(d, "dark");
            CART.add(d, "apple", 5);
        });
        Session s = signedIn();
        Data d = s.userData();
        Server.command("DEL", key(m));
        assertEquals(Optional.empty(), THEME.take(d));
        assertEquals(1, CART.addWithin(d, "apple", 1, 0, 9, 1));
        assertEquals(Kind.LIMIT, kind(() -> CART.addWithin(d, "pear", 1, 0, 9, 1)));
        assertEquals(Kind.LIMIT, kind(() -> CART.addWithin(d, "apple", 9, 0, 9, 1)));
        assertEquals(Map.of("apple", 1L), cart());
    }

    @Test
    void ofTwoRequestsThatCreateTheDataBothAreKept() {
        Sessions sealed = new Sessions(store, sealing(1));
        MapField<String> notes = MapField.of("notes", Codec.STRING);
        Session a = signedIn(sealed);
        Session b = signedIn(sealed);
        Data ofA = a.userData();
        Data ofB = b.userData();
        notes.set(ofA, "a", "1");
        CART.add(ofA, "apple", 1);
        notes.set(ofB, "b", "2");
        CART.add(ofB, "apple", 1);
        a.commitBeforeHeader(true);
        assertEquals("3", notes.update(ofB, "c", n -> "3"));
        b.commitBeforeHeader(true);
        UserData data = sealed.userData(user);
        assertEquals(Map.of("a", "1", "b", "2", "c", "3"), notes.all(data));
        assertEquals(2, CART.get(data, "apple"));
        assertEquals(notes.all(data), notes.all(ofB));
    }

    @Test
    void aUseIsNotedAtMostOnceAnHour() {
        elsewhere(d -> CART.add(d, "apple", 1));
        for (int minutes : new int[] {59, 61}) {
            String state = Server.hash(key(m)).get("@s");
            long seen = Texts.hex(state.substring(44)) - Duration.ofMinutes(minutes).toMillis();
            String back = state.substring(0, 44) + String.format("%012x", seen);
            Server.command("HSET", key(m), "@s", back);
            Session passive = signedIn();
            passive.passive();
            Session s = signedIn();
            for (Session of : List.of(passive, s)) {
                of.userData();
                of.commitBeforeHeader(true);
                of.touch();
                of.awaitTouch();
                assertEquals(minutes < 60 || of == passive, back.equals(Server.hash(key(m)).get("@s")));
            }
            Server.command("HSET", key(m), "@s", state);
        }
    }

    @Test
    void deletingAUserNeedsNoKeyOfAValue() {
        Sessions sealed = new Sessions(store, sealing(1));
        UserData data = sealed.userData(user);
        THEME.set(data, "dark");
        data.commit();
        Sessions without = new Sessions(store, sealing(2));
        assertEquals(Kind.SEALED, kind(() -> without.userData(user)));
        Session s = signedIn(without);
        assertEquals(Kind.SEALED, kind(s::userData));
        s.commitBeforeHeader(true); // nothing was opened that could be committed
        assertEquals(1, without.deleteUser(user));
        assertEquals(2, Server.hash(key(sealed)).size(), "only the metadata is left");
        assertEquals(0, m.deleteUser("nobody"));
        assertEquals(Kind.INVALID, kind(() -> m.deleteUser("")));
        assertEquals(Kind.INVALID, kind(() -> m.userData("")));
    }

    // Hostile data.

    @Test
    void dataThatIsNoneIsAnErrorAndIsNotRewritten() {
        elsewhere(d -> CART.add(d, "apple", 1));
        Map<String, String> good = Server.hash(key(m));
        String state = good.get("@s");
        String principal = "@u" + "A".repeat(22) + "000000000000" + "00" + "0" + "0000";
        Session s = m.begin((String) null).read();
        s.signIn(Login.user(user));
        List<Object[]> hostile = List.of(
            new Object[] {"SET", "x"}, new Object[] {"RPUSH", "x"}, new Object[] {"HSET", "a", "b"},
            new Object[] {"HSET", "@ended", "0".repeat(12) + "A".repeat(22)}, new Object[] {"HSET", "@moved", "0".repeat(12)},
            new Object[] {"HSET", "@s", "2" + state.substring(1), "@l", good.get("@l")},
            new Object[] {"HSET", "@s", state.substring(0, 2) + "B".repeat(21) + "A" + state.substring(24), "@l", good.get("@l"), "cart:apple", "1"},
            new Object[] {"HSET", "@s", state, "@l", good.get("@l")},
            new Object[] {"HSET", "@s", state, "@l", good.get("@l"), "cart:apple", "1", "@new", "x"},
            new Object[] {"HSET", "@s", state, "@l", good.get("@l"), "cart:apple", "1", "@u", principal.substring(2)});
        for (Object[] command : hostile) {
            Server.command("DEL", key(m));
            List<Object> words = new ArrayList<>(List.of(command));
            words.add(1, key(m));
            Server.command(words.toArray());
            Object before = Server.command("DUMP", key(m));
            String about = words.toString();
            Session r = m.begin(s.newToken()).read();
            assertEquals(Kind.UNAVAILABLE, kind(r::userData), about);
            assertEquals(Kind.UNAVAILABLE, kind(() -> m.userData(user)), about);
            assertEquals(before, Server.command("DUMP", key(m)), about);
            r.commitBeforeHeader(true);
        }
    }

    @Test
    void dataThatBecomesHostileAfterTheReadIsNotRewritten() {
        for (List<String> command : List.of(List.of("SET", "x"), List.of("HSET", "@ended", "0".repeat(12) + "A".repeat(22)),
            List.of("HSET", "@s", "x"))) {
            for (boolean stored : new boolean[] {false, true}) {
                nextUser();
                if (stored) {
                    elsewhere(d -> CART.add(d, "apple", 1));
                }
                Session s = signedIn();
                CART.add(s.userData(), "apple", 1);
                Server.command("DEL", key(m));
                List<Object> words = new ArrayList<>(command);
                words.add(1, key(m));
                Server.command(words.toArray());
                Object before = Server.command("DUMP", key(m));
                assertEquals(Kind.UNAVAILABLE, kind(() -> s.commitBeforeHeader(true)), words.toString());
                assertEquals(before, Server.command("DUMP", key(m)), words.toString());
            }
        }
    }

    // Threads.

    @Test
    void threadsUseTheDataOfOneSession() {
        Session s = signedIn();
        List<CompletableFuture<Void>> all = new ArrayList<>();
        for (int t = 0; t < 8; t++) {
            all.add(CompletableFuture.runAsync(() -> {
                for (int i = 0; i < 50; i++) {
                    Data d = s.userData();
                    CART.add(d, "apple", 1);
                    CART.add(s, "apple", 1);
                    if (i % 10 == 0) {
                        d.commit();
                        s.commit();
                    }
                    CART.all(d);
                }
            }));
        }
        all.forEach(CompletableFuture::join);
        s.commitBeforeHeader(true);
        s.userData(); // moves the last ones
        assertEquals(Map.of("apple", 800L), cart());
        assertEquals(Map.of(), CART.all(s));
    }

    @Test
    void aTimeThatIsNoneIsRefused() {
        for (Duration d : List.of(Duration.ZERO, Duration.ofDays(4000))) {
            assertThrows(IllegalArgumentException.class, () -> new Sessions(store, new Config().userDataTimeout(d)));
        }
    }
}
