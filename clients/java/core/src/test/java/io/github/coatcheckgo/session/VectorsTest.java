package io.github.coatcheckgo.session;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.Test;

/** The test data that all languages share. */
class VectorsTest {
    private static final Map<String, Integer> COUNTS = new TreeMap<>();

    private static void count(String file, int n) {
        COUNTS.merge(file, n, Integer::sum);
    }

    @AfterAll
    static void printCounts() {
        System.out.println("vectors: " + COUNTS + ", " + COUNTS.values().stream().mapToInt(n -> n).sum() + " cases");
    }

    @Test
    void tokens() {
        for (Map<String, Object> c : Vectors.cases(Vectors.read("vectors/tokens.json"))) {
            count("tokens", 1);
            Keys keys = Vectors.keys(c);
            Token t = Token.parse(Vectors.text(c, "token"), keys);
            assertEquals(c.get("valid"), t != null, () -> "token: " + c);
            if (t == null) {
                continue;
            }
            assertEquals(Vectors.text(c, "token"), t.text(keys));
            assertEquals(Vectors.number(c, "bucket"), t.bucket);
            assertEquals(Vectors.number(c, "generation"), t.generation);
            assertArrayEquals(Vectors.hex(c, "selector"), t.selector);
            assertArrayEquals(Vectors.hex(c, "verifier"), t.verifier());
            assertEquals(c.get("verifier_hash"), t.verifierHash());
            assertEquals(c.get("handle"), t.id().handle());
            assertEquals(c.get("redis_key"), t.id().key("coatcheck"));
            assertEquals(t.id(), SessionId.parse(t.id().handle()));
        }
    }

    @Test
    void csrfTokens() {
        for (Map<String, Object> c : Vectors.cases(Vectors.read("vectors/csrf.json"))) {
            count("csrf", 1);
            String id = Texts.base64(Vectors.hex(c, "id"));
            assertEquals(c.get("valid"), Csrf.isValid(id, Vectors.text(c, "token")), () -> "CSRF: " + c);
            if (c.containsKey("pad")) {
                assertEquals(c.get("token"), Csrf.token(id, Vectors.hex(c, "pad")));
            }
        }
    }

    @Test
    void users() {
        for (Map<String, Object> c : Vectors.cases(Vectors.read("vectors/users.json"))) {
            count("users", 1);
            Keys keys = new Keys(List.of(), c.containsKey("key") ? Vectors.hex(c, "key") : null);
            String owner = keys.owner(Vectors.hex(c, "user"));
            assertEquals(c.get("owner"), owner);
            assertEquals(c.get("bucket"), String.format("%04x", Keys.bucket(owner)));
            assertEquals(c.get("index"), SessionId.indexKey("coatcheck", owner));
            assertEquals(c.get("revocations"), new SessionId(Vectors.text(c, "bucket"), "").revocationsKey("coatcheck"));
        }
    }

    @Test
    void sealedValues() {
        for (Map<String, Object> c : Vectors.cases(Vectors.read("vectors/sealed.json"))) {
            count("sealed", 1);
            Keys keys = Vectors.keys(c);
            String id = Vectors.text(c, "id");
            String name = Vectors.text(c, "name");
            byte[] sealed = Texts.bytes(Vectors.text(c, "sealed"));
            if (!c.containsKey("plain")) {
                SessionException e = assertThrows(SessionException.class, () -> keys.open(id, name, sealed), () -> "sealed: " + c);
                assertEquals(SessionException.Kind.SEALED, e.kind());
                continue;
            }
            byte[] plain = Texts.bytes(Vectors.text(c, "plain"));
            assertArrayEquals(plain, keys.open(id, name, sealed));
            assertEquals(c.get("sealed"), keys.seal(id, name, plain, Vectors.hex(c, "nonce")));
            assertEquals(c.get("key_id"), Vectors.text(c, "sealed").substring(2, 6));
        }
    }

    @Test
    void records() throws Malformed {
        Map<String, Object> file = Vectors.object(Vectors.read("vectors/records.json"));
        for (Map<String, Object> c : Vectors.cases(file.get("records"))) {
            count("records", 1);
            Record r = Record.parse(Vectors.hash(c.get("hash"))).record();
            checkRecord(Vectors.object(c.get("record")), r, Vectors.text(c, "name"));
        }
        for (Map<String, Object> c : Vectors.cases(file.get("refused"))) {
            count("records", 1);
            assertThrows(Malformed.class, () -> Record.parse(Vectors.hash(c.get("hash"))), () -> "refused: " + c.get("name"));
        }
    }

    private static void checkRecord(Map<String, Object> want, Record r, String name) {
        assertNotNull(r, name);
        assertEquals(want.get("secret"), r.id, name);
        assertEquals(want.get("current"), r.current, name);
        assertEquals(Vectors.number(want, "generation"), r.generation, name);
        assertEquals(Vectors.number(want, "issued_ms"), r.previous.isEmpty() ? 0 : r.issued, name);
        assertEquals(want.get("unused"), r.unused, name);
        assertEquals(Vectors.number(want, "idle_ms"), r.idle, name);
        assertEquals(Vectors.number(want, "created_ms"), r.created, name);
        assertEquals(Vectors.number(want, "seen_ms"), r.seen, name);
        assertEquals(Vectors.number(want, "deadline_ms"), r.deadline, name);
        assertEquals(Vectors.number(want, "revision"), r.revision, name);
        assertEquals(Vectors.number(want, "size"), r.size, name);
        Map<String, Object> fields = new HashMap<>();
        r.fields.forEach((k, v) -> fields.put(k, Texts.utf8(v)));
        assertEquals(want.get("fields"), fields, name);
        if (want.get("previous") == null) {
            assertEquals("", r.previous, name);
        } else {
            Map<String, Object> p = Vectors.object(want.get("previous"));
            assertEquals(p.get("verifier"), r.previous, name);
            assertEquals(p.get("accepted"), r.accepted, name);
            assertEquals(p.get("grace_ms") != null ? p.get("grace_ms") : p.get("until_ms"), r.previousTime, name);
        }
        if (want.get("overtaken") != null) {
            Map<String, Object> o = Vectors.object(want.get("overtaken"));
            assertEquals(o.get("generation"), r.overtaken, name);
            assertEquals(o.get("used") == null ? Record.NO_HASH : o.get("used"), r.overtakenUsed, name);
        } else {
            assertEquals(-1, r.overtaken, name);
        }
        checkUser(want, r, name);
    }

    private static void checkUser(Map<String, Object> want, Record r, String name) {
        if (want.get("user") == null) {
            assertEquals(null, r.principal, name);
            return;
        }
        Map<String, Object> u = Vectors.object(want.get("user"));
        assertEquals(u.get("owner"), r.principal.owner(), name);
        assertEquals(u.get("authenticated_ms"), r.principal.authenticated(), name);
        assertEquals(u.get("level"), (long) r.principal.level(), name);
        assertEquals(u.get("persistent"), r.principal.persistent(), name);
        if (u.get("sealed") != null) {
            assertEquals(u.get("sealed"), r.principal.info(), name);
            return;
        }
        assertEquals(u.get("id"), Texts.base64(r.who.user()), name);
        assertEquals(u.get("methods"), r.who.methods(), name);
        assertEquals(u.get("device"), r.who.device(), name);
        assertEquals(u.get("agent"), r.who.agent(), name);
        assertEquals(u.get("address"), r.who.address(), name);
        assertEquals(r.principal.info(), r.who.encode(), name);
    }

    @Test
    void reading() {
        Map<String, Object> file = Vectors.object(Vectors.read("vectors/reading.json"));
        SessionId id = new SessionId(Vectors.text(file, "bucket"), Vectors.text(file, "selector"));
        String namespace = Vectors.text(file, "namespace");
        assertEquals(file.get("session"), id.key(namespace));
        long now = Vectors.number(file, "now_ms");
        for (Map<String, Object> c : Vectors.cases(file.get("reads"))) {
            count("reading", 1);
            Map<String, Object> stored = Vectors.object(c.get("stored"));
            Map<String, Object> revoked = Vectors.object(stored.get("revoked"));
            byte[] text = revoked.get("type").equals("none") ? null : Texts.bytes(Vectors.text(revoked, "text"));
            boolean isString = List.of("none", "string").contains(revoked.get("type"));
            Reading.Found found = new Reading.Found(hashOf(stored.get("session")), hashOf(stored.get("revocations")), text, isString, now);
            Map<String, Object> token = Vectors.object(c.get("token"));
            String verifier = Vectors.text(token, "verifier");
            String outcome;
            Record r = null;
            try {
                Reading reading = Reading.decide(found, id, namespace, Vectors.number(token, "generation"), verifier,
                    Vectors.number(c, "request_began_ms"));
                r = reading.record;
                outcome = switch (reading.outcome) {
                    case ENDED_DURING -> "ended during the request";
                    case ENDED_BEFORE -> "ended before the request";
                    default -> reading.outcome.name().toLowerCase(java.util.Locale.ROOT);
                };
            } catch (Malformed e) {
                outcome = "error";
                assertEquals(c.get("wrong"), e.name, () -> c.get("name") + ": " + e.getMessage());
            }
            assertEquals(c.get("outcome"), outcome, () -> (String) c.get("name"));
            boolean uses = outcome.equals("current") || outcome.equals("grace");
            assertEquals(c.get("touch_due"), uses && r.touchDue(verifier, now), () -> "touch due: " + c.get("name"));
            assertEquals(Vectors.number(c, "expires_ms"), uses ? r.expires() : 0, () -> "expires: " + c.get("name"));
        }
    }

    private static Map<String, byte[]> hashOf(Object o) {
        Map<String, Object> stored = Vectors.object(o);
        return switch (Vectors.text(stored, "type")) {
            case "hash", "none" -> Vectors.hash(stored.get("hash"));
            default -> null;
        };
    }

    @Test
    void changes() {
        try (RedisStore store = Server.store()) {
            for (Map<String, Object> c : Vectors.cases(Vectors.read("vectors/changes.json"))) {
                count("changes", 1);
                Map<String, Object> change = Vectors.object(c.get("change"));
                List<?> args = (List<?>) c.get("args");
                List<Object> mine = new ArrayList<>(args.subList(0, 4));
                mine.set(0, change.get("verifier"));
                mine.set(1, change.get("max_size").toString());
                if (change.get("renew") != null) {
                    Map<String, Object> n = Vectors.object(change.get("renew"));
                    boolean rotate = Vectors.number(n, "grace_ms") > 0;
                    mine.addAll(List.of(rotate ? "rotate" : "renew", n.get("verifier"), rotate ? n.get("grace_ms") : "",
                        rotate ? n.get("min_age_ms") : ""));
                }
                Vectors.cases(change.get("ops")).forEach(op -> op(op).arguments(mine));
                List<String> texts = mine.stream().map(a -> a instanceof byte[] b ? Texts.utf8(b) : a.toString()).toList();
                List<Object> want = new ArrayList<>(args);
                want.replaceAll(a -> a == null ? "" : a);
                assertEquals(want, texts, () -> "arguments: " + c.get("name"));
                String key = Server.namespace() + ":{0000}:s:WdX_QYag_mz4hKE7sF8B0A";
                run(store, (String) c.get("name"), "apply.lua", key(key, c.get("before")), List.of(key), args, c.get("reply"), key(key, c.get("after")));
            }
        }
    }

    private static Map<String, Object> key(String key, Object content) {
        Map<String, Object> keys = new HashMap<>();
        if (content != null) {
            keys.put(key, content);
        }
        return keys;
    }

    private static Op op(Map<String, Object> c) {
        String key = Vectors.text(c, "key");
        return switch (Vectors.text(c, "kind")) {
            case "set" -> Op.set(key, Texts.bytes(Vectors.text(c, "value")));
            case "swap" -> Op.swap(key, bytes(c, "old"), bytes(c, "value"));
            case "add" -> c.get("min") == null ? Op.add(key, Long.parseLong(Vectors.text(c, "delta")))
                : new Op("add", key, bytes(c, "delta"), Texts.bytes(c.get("min") + " " + c.get("max")));
            case "limit" -> new Op("limit", key, bytes(c, "max"), new byte[0]);
            default -> Op.of(Vectors.text(c, "kind"), key);
        };
    }

    private static byte[] bytes(Map<String, Object> c, String name) {
        return c.get(name) == null ? null : Texts.bytes(Vectors.text(c, name));
    }

    @Test
    void scripts() {
        try (RedisStore store = Server.store()) {
            for (Map<String, Object> c : Vectors.cases(Vectors.read("vectors/scripts.json"))) {
                count("scripts", 1);
                List<String> keys = new ArrayList<>();
                ((List<?>) c.get("keys")).forEach(k -> keys.add((String) k));
                run(store, c.get("script") + " " + c.get("name"), Vectors.text(c, "script"), Vectors.object(c.get("before")), keys,
                    (List<?>) c.get("args"), c.get("reply"), Vectors.object(c.get("after")));
            }
        }
    }

    /** Stores the content, runs the script, and compares its reply and the content afterwards. */
    private static void run(RedisStore store, String name, String script, Map<String, Object> before, List<String> keys, List<?> args,
        Object reply, Map<String, Object> after) {
        TreeSet<String> all = new TreeSet<>(keys);
        all.addAll(before.keySet());
        all.addAll(after.keySet());
        all.forEach(key -> Server.command("DEL", key));
        long now = (Long) Server.command("EVAL", "local t=redis.call('TIME') return t[1]*1000+math.floor(t[2]/1000)", "1", all.first());
        before.forEach((key, content) -> create(key, Vectors.object(content), now));
        List<String> filled = new ArrayList<>();
        args.forEach(a -> filled.add(a == null ? "" : Vectors.fill((String) a, now)));
        Object got;
        try {
            got = Server.plain(store.run(script, RedisStore.Repeat.ONCE, keys, filled).parts());
        } catch (SessionException e) {
            got = e.getMessage();
        }
        Object actual = got;
        boolean leave = script.equals("move.lua") && filled.get(0).equals("leave");
        Object expected = leave ? unordered(reply, now) : reply;
        Object compared = leave ? unordered(actual, now) : actual;
        assertTrue(Vectors.replies(expected, compared, now), () -> name + ": reply " + actual + ", not " + reply);
        for (String key : all) {
            check(name, key, after.get(key) == null ? null : Vectors.object(after.get(key)), now);
        }
        all.forEach(key -> Server.command("DEL", key));
    }

    /** Sorts the hash in the reply of "leave". */
    private static Object unordered(Object reply, long now) {
        if (!(reply instanceof List<?> list) || list.size() != 3) {
            return reply;
        }
        TreeMap<String, Object> sorted = new TreeMap<>();
        List<?> hash = (List<?>) list.get(2);
        for (int i = 0; i < hash.size(); i += 2) {
            sorted.put((String) hash.get(i), hash.get(i + 1));
        }
        List<Object> flat = new ArrayList<>();
        sorted.forEach((k, v) -> flat.addAll(List.of(k, v)));
        return List.of(list.get(0), list.get(1), flat);
    }

    private static void create(String key, Map<String, Object> content, long now) {
        if (content.containsKey("hash")) {
            Vectors.object(content.get("hash")).forEach((n, v) -> Server.command("HSET", key, n, Vectors.fill((String) v, now)));
        } else if (content.containsKey("scores")) {
            Vectors.object(content.get("scores")).forEach((n, v) -> Server.command("ZADD", key, Vectors.fill((String) v, now), n));
        } else if (content.containsKey("text")) {
            Server.command("SET", key, Vectors.fill((String) content.get("text"), now));
        } else {
            for (Object entry : (List<?>) content.get("stream")) {
                List<Object> words = new ArrayList<>(List.of("XADD", key));
                words.addAll((List<?>) entry);
                Server.command(words.toArray());
            }
        }
        if (Vectors.number(content, "ttl") > 0) {
            Server.command("PEXPIRE", key, content.get("ttl"));
        }
    }

    private static void check(String name, String key, Map<String, Object> content, long now) {
        String type = (String) Server.command("TYPE", key);
        if (content == null) {
            assertEquals("none", type, () -> name + ": " + key);
            return;
        }
        Map<String, Object> want = new TreeMap<>();
        Map<String, String> got = new TreeMap<>();
        if (content.containsKey("hash")) {
            want.putAll(Vectors.object(content.get("hash")));
            got.putAll(Server.hash(key));
        } else if (content.containsKey("scores")) {
            want.putAll(Vectors.object(content.get("scores")));
            List<?> list = (List<?>) Server.command("ZRANGE", key, "0", "-1", "WITHSCORES");
            for (int i = 0; i < list.size(); i += 2) {
                got.put((String) list.get(i), (String) list.get(i + 1));
            }
        } else if (content.containsKey("text")) {
            want.put("", content.get("text"));
            got.put("", (String) Server.command("GET", key));
        } else {
            want.put("", flat(content.get("stream")));
            got.put("", flat(Server.command("XRANGE", key, "-", "+")));
        }
        assertEquals(want.keySet(), got.keySet(), () -> name + ": " + key);
        want.forEach((n, v) -> assertTrue(Vectors.matches((String) v, got.get(n), now),
            () -> name + ": " + key + " " + n + " is " + got.get(n) + ", not " + v));
        long ttl = (Long) Server.command("PTTL", key);
        long expected = Vectors.number(content, "ttl");
        boolean near = expected == 0 ? ttl == -1 : expected == -1 ? ttl > 0 : Math.abs(ttl - expected) < 5_000;
        assertTrue(near, () -> name + ": " + key + " expires in " + ttl + ", not " + expected);
    }

    private static String flat(Object o) {
        StringBuilder out = new StringBuilder();
        if (o instanceof List<?> list) {
            list.forEach(e -> out.append(flat(e)).append('|'));
            return out.toString().replace("||", "|");
        }
        return String.valueOf(o);
    }
}
