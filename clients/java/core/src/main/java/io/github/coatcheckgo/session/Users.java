package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.Connection.Call;
import io.github.coatcheckgo.session.RedisStore.Repeat;
import io.github.coatcheckgo.session.RedisStore.Reply;
import io.github.coatcheckgo.session.SessionException.Kind;
import io.lettuce.core.protocol.CommandArgs;
import io.lettuce.core.protocol.CommandType;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.Function;

/** The steps of the specification's section "Users" on the store. */
final class Users {
    private Users() {}

    private static final int BATCH = 500;
    private static final int MAX_OTHERS = 996;
    private static final long FIRST = 60_000;
    private static final long DAY = 86_400_000;

    /** A session in a user's index. */
    record Entry(String name, long created) {}

    record Index(List<Entry> entries, String version) {}

    private static Index parseIndex(Object reply) {
        List<Entry> entries = new ArrayList<>();
        String version = "0";
        List<?> list = (List<?>) reply;
        for (int i = 0; i < list.size(); i += 2) {
            String name = new String((byte[]) list.get(i), StandardCharsets.UTF_8);
            // Redis writes a score that is an integer as one, up to 2^53.
            long score = (long) Double.parseDouble(new String((byte[]) list.get(i + 1), StandardCharsets.US_ASCII));
            if (name.equals("@rev")) {
                version = Long.toString(score);
            } else {
                entries.add(new Entry(name, score));
            }
        }
        return new Index(entries, version);
    }

    private static List<String> keys(RedisStore store, String owner, List<String> names) {
        String bucket = String.format("%04x", Keys.bucket(owner));
        List<String> keys = new ArrayList<>();
        names.forEach(name -> keys.add(new SessionId(bucket, name).key(store.namespace)));
        return keys;
    }

    private static String revocations(RedisStore store, String owner) {
        return new SessionId(String.format("%04x", Keys.bucket(owner)), "").revocationsKey(store.namespace);
    }

    // Signing in.

    /** A sign-in. */
    static final class SignIn {
        SessionId id;
        String secret;
        String verifierHash;
        Principal principal;
        long idle;
        long lifetime;
        long beganAt; // System.nanoTime when the authentication began
        long authenticatedAgo;
        int max;
        boolean refuse;
        SessionId from; // null: none
        String fromVerifier;
        /** Makes the fields of the new session from the old record, or from null. */
        Function<Record, TreeMap<String, byte[]>> fields;

        // Results.
        TreeMap<String, byte[]> stored;
        long time;
    }

    /** Signs in. An UNKNOWN_OUTCOME may have stored the session. */
    static void signIn(RedisStore store, SignIn x) {
        String owner = x.principal.owner();
        long began = began(store, owner, x);
        Record old = leave(store, x);
        try {
            storeSession(store, x, owner, began, old);
        } catch (SessionException e) {
            if (e.kind() != Kind.UNKNOWN_OUTCOME && x.from != null) {
                stay(store, x);
            }
            throw e;
        }
        if (old != null) {
            store.ends.moved(x.from, old.principal == null ? null : old.principal.owner());
        }
        checkRevoked(store, x, owner, began);
        if (old != null && !sameUser(old, owner)) {
            left(store, x, old);
        }
        if (confirms(x)) {
            confirm(store, x);
        }
    }

    private static boolean sameUser(Record old, String owner) {
        return old != null && old.principal != null && old.principal.owner().equals(owner);
    }

    private static boolean confirms(SignIn x) {
        return (x.from != null || x.max > 0) && x.idle - FIRST > Math.min(x.idle / 20, 60_000);
    }

    /** Step 1. Returns when the authentication began, by the server's clock. */
    private static long began(RedisStore store, String owner, SignIn x) {
        if (System.nanoTime() - x.beganAt > DAY * 1_000_000) {
            throw new SessionException(Kind.REVOKED, "the authentication began more than a day ago");
        }
        long revoked;
        long began;
        try {
            long[] found = store.readRevoked();
            revoked = found[0];
            began = found[1] - (System.nanoTime() - x.beganAt) / 1_000_000 - 1; // rather too early
        } catch (Malformed e) {
            throw e.forSession(x.id.handle());
        }
        // What began here after the reply to an own revocation began after that revocation.
        Long own = store.ends.revokedBefore(owner, x.beganAt);
        if (own != null && began <= own) {
            sleep(2); // the script compares with its own time as well
            began = own + 1;
        }
        if (began <= revoked) {
            throw new SessionException(Kind.REVOKED, "everybody was revoked after the authentication began");
        }
        return began;
    }

    private static void sleep(long ms) {
        try {
            Thread.sleep(ms);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    /** Step 2. Returns the old session, closed to writers, or null. */
    private static Record leave(RedisStore store, SignIn x) {
        if (x.from == null || store.ends.refusal(x.from) != null) {
            return null;
        }
        Reply r = store.run("move.lua", Repeat.ALWAYS, List.of(x.from.key(store.namespace), x.from.revocationsKey(store.namespace)),
            List.of("leave", x.id.name(), x.fromVerifier, store.knownRevoked()));
        switch (r.status()) {
            case "ok":
                try {
                    Record.Stored old = Record.parse(RedisStore.hash(r.parts().get(2)));
                    if (old.record() == null) {
                        throw new Malformed("@s", "missing");
                    }
                    return old.record();
                } catch (Malformed e) {
                    stay(store, x);
                    throw e.forSession(x.from.handle());
                }
            case "gone", "moved":
                return null;
            default:
                throw r.unexpected("session " + x.from.handle());
        }
    }

    private static void stay(RedisStore store, SignIn x) {
        try {
            store.run("move.lua", Repeat.ALWAYS, List.of(x.from.key(store.namespace)), List.of("stay", x.id.name()));
        } catch (SessionException e) {
            // It accepts writes again after ten seconds.
        }
    }

    /** Step 3. */
    private static void storeSession(RedisStore store, SignIn x, String owner, long began, Record old) {
        x.stored = x.fields.apply(old);
        while (true) {
            Index index = readIndex(store, x, owner, old);
            Reply r = store.run("signin.lua", Repeat.ALWAYS, signInKeys(store, x, owner, index, old), signInArgs(store, x, owner, began, old, index));
            switch (r.status()) {
                case "ok" -> {
                    x.time = r.number(1);
                    r.texts(2).forEach(name -> store.ends.ended(new SessionId(x.id.bucket(), name), owner));
                    return;
                }
                case "again" -> {
                    Reading.Found found = store.load(x.id); // an earlier reply was lost
                    x.time = found.now();
                    return;
                }
                case "changed" -> {
                    continue; // read it and try again
                }
                case "revoked" -> throw new SessionException(Kind.REVOKED, "the user was revoked after the authentication began");
                case "full" -> throw new SessionException(Kind.TOO_MANY, "the user has as many sessions as allowed");
                default -> throw r.unexpected("sign-in");
            }
        }
    }

    private static Index readIndex(RedisStore store, SignIn x, String owner, Record old) {
        String key = SessionId.indexKey(store.namespace, owner);
        if (x.max == 0) { // keeps the index small: a sample, in one of eight sign-ins
            if (ThreadLocalRandom.current().nextInt(8) > 0) {
                return new Index(List.of(), "");
            }
            Index sample = parseIndex(store.query(() -> List.of(RedisStore.call(CommandType.ZRANDMEMBER, key, "20", "WITHSCORES"))).get(0));
            return new Index(sample.entries, "");
        }
        Index all = parseIndex(store.query(() -> List.of(RedisStore.call(CommandType.ZRANGE, key, "0", "-1", "WITHSCORES"))).get(0));
        int extra = all.entries.size() - MAX_OTHERS;
        if (extra <= 0) {
            return all;
        }
        // A script takes no more keys: remove what has ended, and end the oldest over the limit.
        List<String> names = new ArrayList<>(all.entries.stream().map(Entry::name).toList());
        clean(store, owner, names);
        all = parseIndex(store.query(() -> List.of(RedisStore.call(CommandType.ZRANGE, key, "0", "-1", "WITHSCORES"))).get(0));
        if (all.entries.size() <= MAX_OTHERS) {
            return all;
        }
        if (x.refuse) {
            throw new SessionException(Kind.TOO_MANY, "the user has as many sessions as allowed");
        }
        String kept = sameUser(old, owner) ? x.from.name() : "";
        names = new ArrayList<>(all.entries.stream().map(Entry::name).filter(name -> !name.equals(kept)).toList());
        end(store, owner, names.subList(0, names.size() - x.max));
        return parseIndex(store.query(() -> List.of(RedisStore.call(CommandType.ZRANGE, key, "0", "-1", "WITHSCORES"))).get(0));
    }

    private static List<String> signInKeys(RedisStore store, SignIn x, String owner, Index index, Record old) {
        List<String> names = new ArrayList<>(index.entries.stream().map(Entry::name).toList());
        if (sameUser(old, owner) && !names.contains(x.from.name())) {
            names.add(x.from.name());
        }
        List<String> keys = new ArrayList<>(List.of(x.id.key(store.namespace), SessionId.indexKey(store.namespace, owner), revocations(store, owner)));
        keys.addAll(keys(store, owner, names));
        return keys;
    }

    private static List<Object> signInArgs(RedisStore store, SignIn x, String owner, long began, Record old, Index index) {
        List<Object> args = new ArrayList<>(List.of(x.secret, x.verifierHash, Op.size(x.stored), x.idle, x.lifetime,
            confirms(x) ? FIRST : x.idle, index.version, began, x.authenticatedAgo, x.max, x.refuse ? 1 : 0,
            store.knownRevoked(), sameUser(old, owner) ? x.from.name() : "", x.principal.suffix()));
        x.principal.parts().forEach((name, part) -> args.addAll(List.of(name, part)));
        x.stored.forEach((name, value) -> args.addAll(List.of(name, value)));
        return args;
    }

    /** Step 4: everybody may have been revoked meanwhile. That key is in another slot. */
    private static void checkRevoked(RedisStore store, SignIn x, String owner, long began) {
        long revoked;
        try {
            revoked = store.readRevoked()[0];
        } catch (Malformed | SessionException e) {
            throw new SessionException(Kind.UNKNOWN_OUTCOME, "the last revocation of everybody is not known", e);
        }
        if (began <= revoked) {
            store.ends.ended(x.id, owner);
            end(store, owner, List.of(x.id.name()));
            throw new SessionException(Kind.REVOKED, "everybody was revoked after the authentication began");
        }
    }

    /** Step 5. If it fails, it is repeated as an end is. */
    private static void left(RedisStore store, SignIn x, Record old) {
        List<String> keys = new ArrayList<>(List.of(x.from.key(store.namespace)));
        if (old.principal != null) {
            keys.add(SessionId.indexKey(store.namespace, old.principal.owner()));
        }
        try {
            store.run("move.lua", Repeat.ALWAYS, keys, List.of("left", x.id.name()));
        } catch (SessionException e) {
            store.ends.repeatAll();
        }
    }

    /** Step 6. */
    private static void confirm(RedisStore store, SignIn x) {
        try {
            store.run("touch.lua", Repeat.ALWAYS, List.of(x.id.key(store.namespace), x.id.revocationsKey(store.namespace)),
                List.of(x.verifierHash, store.knownRevoked(), 0));
        } catch (SessionException e) {
            throw new SessionException(Kind.UNKNOWN_OUTCOME, "the sign-in was not confirmed", e);
        }
    }

    // Ending.

    /** Ends one session. The owner is null if nobody was signed in. Returns whether it was alive. */
    static boolean endOne(RedisStore store, SessionId id, String owner, boolean existed) {
        String key = id.key(store.namespace);
        try {
            List<String> keys = owner == null ? List.of(key) : List.of(key, SessionId.indexKey(store.namespace, owner));
            Reply r = store.run("end.lua", Repeat.ALWAYS, keys, List.of(Record.NO_HASH, 0));
            if (r.status().equals("moved")) {
                store.ends.moved(id, owner);
                throw new SessionException(Kind.ENDED, "a sign-in has replaced the session");
            }
            if (!r.status().equals("ok")) {
                throw r.unexpected("session " + id.handle());
            }
            boolean alive = r.number(2) == 1;
            if (alive || existed) { // anybody can make up the name of a session
                store.ends.ended(id, owner);
            }
            return alive;
        } catch (SessionException e) {
            if (e.isUnavailable()) {
                store.ends.ended(id, owner); // it is repeated
            }
            throw e;
        }
    }

    /** Ends the named sessions of a user. Returns how many were alive. */
    static int end(RedisStore store, String owner, List<String> names) {
        int n = 0;
        for (int from = 0; from < names.size(); from += BATCH) {
            List<String> batch = names.subList(from, Math.min(names.size(), from + BATCH));
            n += endUser(store, owner, "only", "", batch).texts(3).size();
        }
        return n;
    }

    /** Revokes all sessions of a user, except the named ones. Returns how many it ended. */
    static int revoke(RedisStore store, String owner, List<String> except, long longest) {
        Reply r = endUser(store, owner, "all", Long.toString(Math.max(longest, DAY)), except);
        try {
            return finish(store, owner, r.text(2), r.texts(5));
        } finally { // a repetition meanwhile would remove sessions that this call counts
            store.ends.revoked(owner, r.text(2));
        }
    }

    /** Repeats a revocation, as after a failover. */
    static void again(RedisStore store, String owner, String revocation) {
        Reply r = endUser(store, owner, "again", revocation, List.of());
        finish(store, owner, r.text(2), r.texts(5));
    }

    private static int finish(RedisStore store, String owner, String revocation, List<String> named) {
        int n = 0;
        while (!named.isEmpty()) {
            Reply r = endUser(store, owner, "again", revocation, named);
            n += r.texts(3).size();
            named = r.texts(5);
        }
        return n;
    }

    private static Reply endUser(RedisStore store, String owner, String action, String argument, List<String> names) {
        List<String> keys = new ArrayList<>(List.of(SessionId.indexKey(store.namespace, owner), revocations(store, owner)));
        keys.addAll(keys(store, owner, names));
        Reply r = store.run("enduser.lua", Repeat.ALWAYS, keys, List.of(action, argument, store.knownRevoked()));
        if (!r.status().equals("ok")) {
            throw r.unexpected("user " + owner);
        }
        String bucket = String.format("%04x", Keys.bucket(owner));
        r.texts(3).forEach(name -> store.ends.ended(new SessionId(bucket, name), owner));
        return r;
    }

    private static void clean(RedisStore store, String owner, List<String> missing) {
        for (int from = 0; from < missing.size(); from += BATCH) {
            List<String> keys = new ArrayList<>(List.of(SessionId.indexKey(store.namespace, owner), revocations(store, owner)));
            keys.addAll(keys(store, owner, missing.subList(from, Math.min(missing.size(), from + BATCH))));
            store.run("clean.lua", Repeat.ALWAYS, keys, List.of());
        }
    }

    // Listing.

    private static final List<String> LISTED = listed(8);

    private static List<String> listed(int parts) {
        List<String> names = new ArrayList<>(List.of("@s", "@l", "@previous", "@overtaken", "@u", "@moving", "@ended", "@moved"));
        for (int i = 1; i <= parts; i++) {
            names.add(i == 1 ? "@i" : "@i" + i);
        }
        return names;
    }

    /** Lists the user's sessions, the newest first, by their names in the store. */
    static Map<SessionId, Record> list(RedisStore store, String owner) {
        Map<SessionId, Record> live = new LinkedHashMap<>();
        String from = "+inf";
        String last = null;
        for (int n = BATCH;;) {
            String start = from;
            int limit = n;
            Object reply = store.query(() -> List.of(RedisStore.call(CommandType.ZRANGE, SessionId.indexKey(store.namespace, owner),
                start, "-inf", "BYSCORE", "REV", "LIMIT", "0", Integer.toString(limit), "WITHSCORES"))).get(0);
            boolean more = ((List<?>) reply).size() == 2 * limit;
            List<Entry> page = new ArrayList<>();
            for (Entry e : parseIndex(reply).entries) {
                boolean precedes = last != null && Long.toString(e.created).equals(start) && e.name.compareTo(last) >= 0;
                if (!precedes) {
                    page.add(e);
                }
            }
            if (page.isEmpty() && more) {
                n *= 2;
                continue;
            }
            appendLive(store, owner, page, live);
            if (!more || page.isEmpty()) {
                return live;
            }
            Entry end = page.get(page.size() - 1);
            from = Long.toString(end.created);
            last = end.name;
            n = BATCH;
        }
    }

    private static void appendLive(RedisStore store, String owner, List<Entry> page, Map<SessionId, Record> live) {
        if (page.isEmpty()) {
            return;
        }
        String bucket = String.format("%04x", Keys.bucket(owner));
        String revocationsKey = revocations(store, owner);
        List<Object> replies = store.query(() -> {
            List<Call> calls = new ArrayList<>();
            page.forEach(e -> calls.add(hmget(new SessionId(bucket, e.name).key(store.namespace), LISTED)));
            calls.add(RedisStore.call(CommandType.HGETALL, revocationsKey));
            calls.add(RedisStore.call(CommandType.GET, store.namespace + ":revoked"));
            calls.add(store.timeCall(revocationsKey));
            return calls;
        });
        List<String> missing = new ArrayList<>();
        long now = RedisStore.time(replies.get(page.size() + 2));
        Reading.Found found = new Reading.Found(null, RedisStore.hash(replies.get(page.size())),
            (byte[]) replies.get(page.size() + 1), true, now);
        for (int i = 0; i < page.size(); i++) {
            SessionId id = new SessionId(bucket, page.get(i).name);
            try {
                long global = Math.max(store.knownRevoked(), Reading.revokedTime(found, store.namespace));
                if (found.revocations() == null) {
                    throw new Malformed(revocationsKey, "not a hash");
                }
                Record r = liveRecord(store, id, replies.get(i), found, now, global, missing);
                if (r == null) {
                    continue;
                }
                if (r.created != page.get(i).created) {
                    throw new Malformed("@l", "the user's index has another time of creation");
                }
                live.put(id, r);
            } catch (Malformed e) {
                throw e.forSession(id.handle());
            }
        }
        if (!missing.isEmpty()) {
            clean(store, owner, missing);
        }
    }

    private static Record liveRecord(RedisStore store, SessionId id, Object reply, Reading.Found found, long now, long global,
        List<String> missing) throws Malformed {
        Map<String, byte[]> hash = named(LISTED, reply);
        if (hash == null) {
            throw new Malformed(id.key(store.namespace), "not a hash");
        }
        byte[] user = hash.get("@u");
        int length = user != null && user.length == 41 ? (int) Texts.hex(new String(user, 37, 4, StandardCharsets.ISO_8859_1)) : 0;
        if (length > 8 * 64 && length <= Principal.MAX_INFO) {
            List<String> names = listed((length + 63) / 64);
            hash = named(names, store.query(() -> List.of(hmget(id.key(store.namespace), names))).get(0));
        }
        if (hash == null || hash.isEmpty()) {
            missing.add(id.name());
            return null;
        }
        Record r = Record.parse(hash, false).record();
        if (r == null || store.ends.refusal(id) != null || now >= r.expires() || r.created <= global) {
            return null;
        }
        Reading.Revocation revocation = r.principal == null ? null : Reading.Revocation.of(found.revocations(), r.principal.owner());
        return revocation != null && revocation.covers(id.name(), r.created) ? null : r;
    }

    private static Call hmget(String key, List<String> names) {
        CommandArgs<byte[], byte[]> args = Connection.args().addKey(Connection.bytes(key));
        names.forEach(name -> args.add(Connection.bytes(name)));
        return new Call(CommandType.HMGET, args);
    }

    private static Map<String, byte[]> named(List<String> names, Object reply) {
        if (!(reply instanceof List<?> values)) {
            return null;
        }
        Map<String, byte[]> hash = new LinkedHashMap<>();
        for (int i = 0; i < names.size(); i++) {
            if (values.get(i) != null) {
                hash.put(names.get(i), (byte[]) values.get(i));
            }
        }
        return hash;
    }
}
