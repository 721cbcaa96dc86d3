package io.github.coatcheckgo.session;

import static io.github.coatcheckgo.session.Failures.kind;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.coatcheckgo.session.SessionException.Kind;
import java.math.BigInteger;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Input and data that Java's own libraries take too lightly. */
class HostileTest {
    private static RedisStore store;
    private static Sessions sessions;

    @BeforeAll
    static void open() {
        store = Server.store();
        sessions = new Sessions(store, new Config());
    }

    @AfterAll
    static void close() {
        store.close();
    }

    private static Session fresh() {
        return sessions.begin((String) null).read();
    }

    private static Session again(Session s) {
        return sessions.begin(s.newToken()).read();
    }

    // JSON.

    @Test
    void integersAndFloatsStayApart() {
        assertEquals(1L, Json.parse("1"));
        assertEquals(1.0, Json.parse("1.0"));
        assertEquals(1000.0, Json.parse("1e3"));
        assertEquals(Long.MAX_VALUE, Json.parse("9223372036854775807"));
        assertEquals(new BigInteger("9223372036854775808"), Json.parse("9223372036854775808"));
        assertEquals("[1,1.0,9223372036854775808]", Json.write(Json.parse(" [ 1 , 1.0,\t9223372036854775808 ] ")));
    }

    @Test
    void anIntegerFieldTakesNoFloat() {
        for (String json : List.of("1.0", "1e3", "\"1\"", "null", "9223372036854775808", "true")) {
            assertThrows(Exception.class, () -> Codec.LONG.decode(json), json);
        }
        assertThrows(ArithmeticException.class, () -> Codec.INTEGER.decode("2147483648"), "it is not cut");
    }

    @Test
    void aDoubleFieldTakesAnInteger() throws Exception {
        assertEquals(3.0, Codec.DOUBLE.decode("3"));
    }

    @Test
    void numbersWithoutAJsonFormAreRefused() {
        for (double d : new double[] {Double.NaN, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY}) {
            Session s = fresh();
            Value.of("v", Codec.DOUBLE).set(s, d);
            assertEquals(Kind.INVALID, kind(s::commit));
        }
        assertEquals(Kind.DECODE, kind(() -> Json.parse("1e999")));
    }

    @ParameterizedTest
    @ValueSource(strings = {"", " ", "01", "-", "+1", "1.", ".5", "1e", "NaN", "Infinity", "'a'", "{a:1}", "[1,]", "{\"a\":1,}", "[1 2]", "\"\n\"",
        "\"\\x\"", "\"\\u12g4\"", "\"\\u\u0661234\"", "nul", "truex", "1 2", "\"a", "{\"a\"}", "\u0661", "/*c*/1", "[", "\uFEFF1"})
    void whatIsNoJsonIsRefused(String text) {
        assertEquals(Kind.DECODE, kind(() -> Json.parse(text)));
    }

    @Test
    void deepNestingDoesNotOverflowTheStack() {
        assertEquals(Kind.DECODE, kind(() -> Json.parse("[".repeat(100_000))));
        List<Object> loop = new ArrayList<>();
        loop.add(loop);
        assertEquals(Kind.INVALID, kind(() -> Json.write(loop)));
    }

    @Test
    void halfASurrogatePairIsNotWritten() {
        assertEquals(Kind.INVALID, kind(() -> Json.write("a\ud83d")));
        assertEquals(Kind.INVALID, kind(() -> Json.write(Map.of("\ude00", 1))));
        assertEquals("\ufffd", Json.parse("\"\\ud83d\""));
        assertEquals("\ud83d\ude00", Json.parse("\"\\ud83d\\ude00\""));
        Session s = fresh();
        MapField.of("m", Codec.STRING).set(s, "\ud83d", "x");
        assertEquals(Kind.INVALID, kind(s::commit));
        assertEquals(Kind.INVALID, kind(() -> fresh().signIn(Login.user("\ud83d"))));
    }

    @Test
    void aTypeNameInAValueMakesNoObject() {
        Object value = Json.parse("{\"@class\":\"java.util.concurrent.atomic.AtomicLong\",\"value\":1}");
        assertTrue(value instanceof Map<?, ?>);
    }

    @Test
    void serializedJavaObjectsAreNeverRead() {
        Session s = fresh();
        Value.of("v").set(s, "x");
        s.commit();
        Info info = s.info();
        byte[] serialized = {(byte) 0xac, (byte) 0xed, 0, 5, 't', 0, 1, 'x'};
        String key = SessionId.parse(info.handle()).key(store.namespace);
        String state = Server.hash(key).get("@s");
        Server.command("HSET", key, "v", serialized, "@s", state.substring(0, 36) + String.format("%08x", 9) + state.substring(44));
        assertEquals(Kind.DECODE, kind(() -> Value.of("v").get(again(s))));
    }

    // Texts.

    @Test
    void base64IsStrict() {
        assertNull(Texts.fromBase64("AB=="));
        assertNull(Texts.fromBase64("AB")); // unused bits
        assertNull(Texts.fromBase64("A+/B"));
        assertNull(Texts.fromBase64("AAA\n"));
        assertNull(Texts.fromBase64("AAAAA"));
        assertNull(Texts.fromBase64("AA\u00e9A"));
        assertEquals(3, Texts.fromBase64("AAAA").length);
    }

    @ParameterizedTest
    @ValueSource(strings = {"+1", " 1", "1 ", "01", "-0", "1_0", "0x1", "1L", "\u0661", "1.0", "", "-", "9223372036854775808", "1\n"})
    void otherIntegersAreRefused(String text) {
        assertNull(Texts.integer(text));
    }

    @ParameterizedTest
    @ValueSource(strings = {"+1", " 1", "1A", "0x1", "", "-1", "1\n", "\u0661"})
    void otherHexadecimalNumbersAreRefused(String text) {
        assertEquals(-1, Texts.hex(text));
    }

    @ParameterizedTest
    @ValueSource(strings = {"a\n", "\n", "\u00e9", "a b", "@s", "\u0661", ""})
    void theNameOfAFieldHasNoOtherCharacters(String name) {
        assertThrows(IllegalArgumentException.class, () -> Counter.of(name));
        assertFalse(Names.isField(name));
    }

    @Test
    void aHandleIsNoTokenAndATokenNoHandle() {
        Session s = fresh();
        Counter.of("n").add(s, 1);
        s.commit();
        assertFalse(sessions.isToken(s.handle()));
        assertNull(SessionId.parse(s.newToken()));
        assertEquals(Kind.NOT_FOUND, kind(() -> sessions.revoke("ann", s.newToken())));
    }

    /** The rest came under the other name, so two of them that open are ambiguous. */
    @Test
    void twoAnonymousCookiesBehindADeadSignedInCookieAreAmbiguous() {
        List<String> tokens = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            Session s = fresh();
            Counter.of("n").add(s, 1);
            s.commitBeforeHeader(true);
            tokens.add(s.newToken());
        }
        sessions.begin(tokens.get(0)).signOut();
        String cookies = "__Host-session=" + tokens.get(0) + "; __Host-session-anon=" + tokens.get(1);
        assertEquals(1, Counter.of("n").get(sessions.begin(List.of(cookies), List.of(), () -> null).read()));
        String twins = cookies + "; __Host-session-anon=" + tokens.get(2);
        assertEquals(Kind.AMBIGUOUS, kind(() -> sessions.begin(List.of(twins), List.of(), () -> null).read()));
    }

    @Test
    void aLogNeverHasTheToken() {
        Token t = Token.create(1);
        assertEquals(t.id().handle(), t.toString());
    }

    @Test
    void textsOfALoginAreCutToWholeCharacters() {
        Session s = fresh();
        s.signIn(Login.user("ann").device("\ud83d\ude00".repeat(40)).userAgent("half \ud83d").address("x".repeat(100)));
        Info info = s.info();
        assertEquals("\ud83d\ude00".repeat(32), info.device());
        assertEquals("half \ufffd", info.userAgent());
        assertEquals(64, info.address().length());
        assertEquals(info.device(), again(s).info().device());
    }

    // Time.

    @Test
    void theClockOfThisMachineDoesNotCount() {
        for (int hours : new int[] {-1, 1}) {
            java.time.Clock wrong = java.time.Clock.offset(java.time.Clock.systemUTC(), Duration.ofHours(hours));
            Sessions off = new Sessions(store, new Config().clock(wrong));
            Session s = off.begin((String) null).read();
            s.signIn(Login.user("clock" + hours).began(wrong.instant()));
            assertTrue(Duration.between(s.info().created(), Instant.now()).abs().toSeconds() < 60);
            assertEquals("clock" + hours, again(s).user());
        }
    }

    // Threads.

    @Test
    void threadsUseOneSession() {
        Session s = fresh();
        Counter n = Counter.of("n");
        Counters m = Counters.of("m");
        List<CompletableFuture<Void>> all = new ArrayList<>();
        for (int t = 0; t < 8; t++) {
            String key = "t" + t;
            all.add(CompletableFuture.runAsync(() -> {
                for (int i = 0; i < 50; i++) {
                    n.add(s, 1);
                    m.add(s, key, 1);
                    if (i % 10 == 0) {
                        s.commit();
                    }
                    n.get(s);
                }
            }));
        }
        all.forEach(CompletableFuture::join);
        s.commit();
        assertEquals(400, n.get(again(s)));
        assertEquals(8, m.all(again(s)).size());
        assertTrue(m.all(again(s)).values().stream().allMatch(v -> v == 50));
    }

    // Configuration.

    @Test
    void anUnsafeConfigurationIsRefused() {
        List<Config> unsafe = List.of(
            new Config().cookieName("session"), new Config().cookieName("__Host-a b"), new Config().cookiePath("/app"),
            new Config().cookieDomain("example.com"), new Config().sameSite("none"), new Config().insecure(true).sameSite("None"),
            new Config().keys(List.of(new byte[16])), new Config().userKey(new byte[31]), new Config().seal(true),
            new Config().idleTimeout(Duration.ofDays(2)), new Config().lifetime(Duration.ofDays(4000)), new Config().maxPerUser(101),
            new Config().refuseExtra(true), new Config().keepFields(List.of("a:b")), new Config().rotateEvery(Duration.ofSeconds(1)),
            new Config().maxSize(0), new Config().cookiePath("/; Secure"), new Config().persistent(true).lifetime(Duration.ofDays(500)));
        for (int i = 0; i < unsafe.size(); i++) {
            Config c = unsafe.get(i);
            assertThrows(IllegalArgumentException.class, () -> new Sessions(store, c), "configuration " + i);
        }
    }
}
