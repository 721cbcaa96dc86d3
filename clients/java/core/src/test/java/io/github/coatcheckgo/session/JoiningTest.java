package io.github.coatcheckgo.session;

import static io.github.coatcheckgo.session.Failures.kind;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.coatcheckgo.session.SessionException.Kind;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;

/** What the contract suite does not say about fields that move to the data of a user. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class JoiningTest {
    private static final Counters CART = Counters.of("cart");
    private static final Value<String> THEME = Value.of("theme");

    private final RedisStore store = Server.store();
    private final Sessions m = new Sessions(store, new Config().userFields(CART, THEME));
    private int users;
    private String user; // no other test has it

    @BeforeEach
    void nextUser() {
        user = "user" + users++;
    }

    @AfterAll
    void close() {
        store.close();
    }

    private String signIn() {
        Session s = m.begin((String) null).read();
        s.signIn(Login.user(user));
        s.commitBeforeHeader(true);
        return s.newToken();
    }

    /** A session of the user that still has a cart, as one from before the user's fields. */
    private String withCart() {
        String token = signIn();
        Session s = m.begin(token).read();
        CART.add(s, "apple", 2);
        s.commitBeforeHeader(true);
        return token;
    }

    private Map<String, Long> cart() {
        return CART.all(m.userData(user));
    }

    private void add(long n) {
        UserData data = m.userData(user);
        CART.add(data, "apple", n);
        data.commit();
    }

    private String dataKey() {
        return SessionId.dataKey(store.namespace, m.keys.owner(Texts.bytes(user)));
    }

    @Test
    void whatAnotherRequestHasMovedIsNotCountedTwice() {
        String token = withCart();
        Session late = m.begin(token).read();
        m.begin(token).read().userData();
        assertEquals(Map.of("apple", 2L), CART.all(late), "it does not know");
        assertEquals(Map.of("apple", 2L), CART.all(late.userData()));
        assertEquals(Map.of(), CART.all(late));
        assertEquals(Map.of("apple", 2L), cart());
    }

    @Test
    void whatTheSessionGotMeanwhileMovesToo() {
        String token = withCart();
        Session late = m.begin(token).read();
        Session other = m.begin(token).read();
        CART.add(other, "apple", 1);
        other.commitBeforeHeader(true);
        assertEquals(Map.of("apple", 3L), CART.all(late.userData()));
        assertEquals(Map.of("apple", 3L), cart());
    }

    @Test
    void dataThatOthersChangedOrStoredMeanwhileIsReadAgain() {
        for (long before : new long[] {0, 1}) {
            nextUser();
            if (before > 0) {
                add(before);
            }
            Session s = m.begin(signIn()).read();
            s.userData();
            add(10);
            CART.add(s, "apple", 2);
            s.commit();
            assertEquals(Map.of("apple", before + 12), CART.all(s.userData()));
            assertEquals(Map.of("apple", before + 12), cart());
        }
    }

    @Test
    void dataThatExpiredMeanwhileIsStoredAnew() {
        add(10);
        Session s = m.begin(signIn()).read();
        Data d = s.userData();
        THEME.set(d, "dark"); // is not committed yet
        CART.add(s, "apple", 2);
        s.commit();
        Server.command("DEL", dataKey());
        assertEquals(Map.of("apple", 2L), CART.all(s.userData()));
        assertEquals("dark", THEME.get(d, ""));
        assertEquals(Map.of("apple", 2L), cart());
        s.commitBeforeHeader(true);
        assertEquals("dark", THEME.get(m.userData(user), ""));
    }

    @Test
    void aSessionWhoseTokenIsBeingReplacedMovesLater() {
        String token = withCart();
        Session s = m.begin(token).read();
        s.renew();
        Data d = s.userData();
        assertEquals(Map.of(), CART.all(d));
        assertEquals(Map.of("apple", 2L), CART.all(s));
        s.commitBeforeHeader(true);
        Session next = m.begin(s.newToken()).read();
        next.commitBeforeHeader(true);
        next.touch();
        next.awaitTouch(); // the first use of the new token
        assertEquals(Map.of("apple", 2L), CART.all(m.begin(s.newToken()).read().userData()));
    }

    @Test
    void whileTheSlotMovesAScriptIsBusy() {
        Script moving = Script.inline("moving", "return redis.error_reply('TRYAGAIN Multiple keys request during rehashing of slot')");
        assertEquals("busy", store.runOrBusy(moving, List.of("key"), List.of()).status());
    }

    @Test
    void aSessionThatHasEndedMovesNothing() {
        for (boolean revoked : new boolean[] {true, false}) {
            nextUser();
            String token = withCart();
            Session s = m.begin(token).read();
            if (revoked) {
                m.revokeUser(user, List.of());
            } else {
                m.begin(token).read().signIn(Login.user(user));
            }
            Map<String, Long> before = cart();
            assertEquals(Kind.ENDED, kind(s::userData));
            assertEquals(before, cart());
            assertTrue(s.isOver());
        }
    }

    @Test
    void aFieldThatIsNoCountStaysInTheSession() {
        String token = signIn();
        Session s = m.begin(token).read();
        MapField.of("cart", Codec.STRING).set(s, "apple", "many");
        s.commitBeforeHeader(true);
        Session t = m.begin(token).read();
        assertEquals(Kind.DECODE, kind(t::userData));
        assertEquals(Map.of(), cart());
        MapField.of("cart", Codec.STRING).clear(t);
        t.commit();
        assertEquals(Map.of(), CART.all(t.userData()));
    }

    @Test
    void aSignInSucceedsIfTheFieldsCannotMove() {
        Server.command("SET", dataKey(), "hostile");
        Session s = m.begin((String) null).read();
        CART.add(s, "apple", 2);
        s.signIn(Login.user(user));
        s.commitBeforeHeader(true);
        assertEquals(user, s.user());
        assertEquals(Map.of("apple", 2L), CART.all(m.begin(s.newToken()).read()));
        assertEquals("hostile", Server.command("GET", dataKey()));
        Server.command("DEL", dataKey());
        assertEquals(Map.of("apple", 2L), CART.all(m.begin(s.newToken()).read().userData()));
    }

    @Test
    void theChangesOfTheRequestMoveAtItsSignIn() {
        Session s = m.begin((String) null).read();
        CART.add(s.userData(), "apple", 2);
        s.signIn(Login.user(user));
        assertEquals(Map.of("apple", 2L), CART.all(s.userData()));
        assertEquals(Map.of("apple", 2L), cart());
        assertFalse(Server.hash(SessionId.parse(s.handle()).key(store.namespace)).containsKey("cart:apple"));
    }

    @Test
    void theFieldsOfAnotherUsersSessionAreNotMoved() {
        String token = withCart();
        Session s = m.begin(token).read();
        s.signIn(Login.user(user + "b"));
        assertEquals(Map.of(), CART.all(s.userData()));
        assertEquals(Map.of(), CART.all(s));
    }
}
