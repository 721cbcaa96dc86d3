package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.RedisStore.Repeat;
import io.github.coatcheckgo.session.RedisStore.Reply;
import io.github.coatcheckgo.session.SessionException.Kind;
import java.util.ArrayList;
import java.util.List;

/** Ends sessions: one, those of a user by name, or all of a user. */
final class UserSessions {
    private UserSessions() {}

    private static final int BATCH = 500;
    private static final long DAY = 86_400_000;

    /**
     * Ends one session. The owner is null if nobody was signed in. Returns whether it was alive.
     */
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
            store.awaitReplicas(id.bucket());
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
        store.awaitReplicas(UserIndex.bucket(owner));
        return n;
    }

    /** Revokes all sessions of a user, except the named ones. Returns how many it ended. */
    static int revoke(RedisStore store, String owner, List<String> except, long longest) {
        Reply r = endUser(store, owner, "all", Long.toString(Math.max(longest, DAY)), except);
        try {
            int n = finish(store, owner, r.text(2), r.texts(5));
            store.awaitReplicas(UserIndex.bucket(owner));
            return n;
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
        List<String> keys = new ArrayList<>(List.of(SessionId.indexKey(store.namespace, owner), UserIndex.revocationsKey(store, owner)));
        keys.addAll(UserIndex.keys(store, owner, names));
        Reply r = store.run("enduser.lua", Repeat.ALWAYS, keys, List.of(action, argument, store.knownRevoked()));
        if (!r.status().equals("ok")) {
            throw r.unexpected("user " + owner);
        }
        String bucket = UserIndex.bucket(owner);
        r.texts(3).forEach(name -> store.ends.ended(new SessionId(bucket, name), owner));
        return r;
    }

    /** Removes sessions that have expired from the index. */
    static void clean(RedisStore store, String owner, List<String> missing) {
        for (int from = 0; from < missing.size(); from += BATCH) {
            List<String> keys = new ArrayList<>(List.of(SessionId.indexKey(store.namespace, owner), UserIndex.revocationsKey(store, owner)));
            keys.addAll(UserIndex.keys(store, owner, missing.subList(from, Math.min(missing.size(), from + BATCH))));
            store.run("clean.lua", Repeat.ALWAYS, keys, List.of());
        }
    }
}
