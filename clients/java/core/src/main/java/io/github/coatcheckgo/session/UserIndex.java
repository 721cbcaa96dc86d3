package io.github.coatcheckgo.session;

import io.lettuce.core.protocol.CommandType;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/** The sessions that a user's index names, and its version. */
record UserIndex(List<Entry> entries, String version) {
    /** A session in the index. */
    record Entry(String name, long created) {}

    /** Reads the whole index. */
    static UserIndex all(RedisStore store, String owner) {
        String key = SessionId.indexKey(store.namespace, owner);
        return parse(store.query(() -> List.of(RedisStore.call(CommandType.ZRANGE, key, "0", "-1", "WITHSCORES"))).get(0));
    }

    /** Reads 20 random entries. */
    static UserIndex sample(RedisStore store, String owner) {
        String key = SessionId.indexKey(store.namespace, owner);
        return parse(store.query(() -> List.of(RedisStore.call(CommandType.ZRANDMEMBER, key, "20", "WITHSCORES"))).get(0));
    }

    /** Reads a list of members and scores. */
    static UserIndex parse(Object reply) {
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
        return new UserIndex(entries, version);
    }

    /** Returns the bucket of all keys of a user. */
    static String bucket(String owner) {
        return String.format("%04x", Keys.bucket(owner));
    }

    /** Returns the keys of sessions of a user. */
    static List<String> keys(RedisStore store, String owner, List<String> names) {
        String bucket = bucket(owner);
        return names.stream().map(name -> new SessionId(bucket, name).key(store.namespace)).toList();
    }

    /** Returns the key of the revocations in the user's bucket. */
    static String revocationsKey(RedisStore store, String owner) {
        return new SessionId(bucket(owner), "").revocationsKey(store.namespace);
    }
}
