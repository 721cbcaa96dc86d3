package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.Connection.Call;
import io.lettuce.core.protocol.CommandArgs;
import io.lettuce.core.protocol.CommandType;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Lists the sessions of a user, without their fields. */
final class UserList {
    private UserList() {}

    private static final int BATCH = 500;
    private static final List<String> LISTED = listed(8); // nearly always all

    private static List<String> listed(int parts) {
        List<String> names = new ArrayList<>(List.of("@s", "@l", "@previous", "@overtaken", "@u", "@moving", "@ended", "@moved"));
        for (int i = 1; i <= parts; i++) {
            names.add(i == 1 ? "@i" : "@i" + i);
        }
        return names;
    }

    /** Lists the user's sessions, the newest first, by their names in the store. */
    static Map<SessionId, Record> read(RedisStore store, String owner) {
        Map<SessionId, Record> live = new LinkedHashMap<>();
        String from = "+inf";
        String last = null;
        for (int n = BATCH;;) {
            String start = from;
            int limit = n;
            Object reply = store.query(() -> List.of(RedisStore.call(CommandType.ZRANGE, SessionId.indexKey(store.namespace, owner),
                start, "-inf", "BYSCORE", "REV", "LIMIT", "0", Integer.toString(limit), "WITHSCORES"))).get(0);
            boolean more = ((List<?>) reply).size() == 2 * limit;
            List<UserIndex.Entry> page = new ArrayList<>();
            for (UserIndex.Entry e : UserIndex.parse(reply).entries()) {
                boolean precedes = last != null && Long.toString(e.created()).equals(start) && e.name().compareTo(last) >= 0;
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
            UserIndex.Entry end = page.get(page.size() - 1);
            from = Long.toString(end.created());
            last = end.name();
            n = BATCH;
        }
    }

    private static void appendLive(RedisStore store, String owner, List<UserIndex.Entry> page, Map<SessionId, Record> live) {
        if (page.isEmpty()) {
            return;
        }
        String bucket = UserIndex.bucket(owner);
        String revocationsKey = UserIndex.revocationsKey(store, owner);
        List<Object> replies = store.query(() -> {
            List<Call> calls = new ArrayList<>();
            page.forEach(e -> calls.add(hmget(new SessionId(bucket, e.name()).key(store.namespace), LISTED)));
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
            SessionId id = new SessionId(bucket, page.get(i).name());
            try {
                long global = Math.max(store.knownRevoked(), Reading.revokedTime(found, store.namespace));
                if (found.revocations() == null) {
                    throw new Malformed(revocationsKey, "not a hash");
                }
                Record r = liveRecord(store, id, replies.get(i), found, now, global, missing);
                if (r == null) {
                    continue;
                }
                if (r.created != page.get(i).created()) {
                    throw new Malformed("@l", "the user's index has another time of creation");
                }
                live.put(id, r);
            } catch (Malformed e) {
                throw e.forSession(id.handle());
            }
        }
        if (!missing.isEmpty()) {
            UserSessions.clean(store, owner, missing);
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
