package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.RedisStore.Repeat;
import io.github.coatcheckgo.session.RedisStore.Reply;
import io.github.coatcheckgo.session.SessionException.Kind;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;

/** The steps of a sign-in, with the numbers of the specification's section "Users". */
final class SignInSteps {
    private static final int MAX_OTHERS = 996;
    private static final long FIRST = 60_000;
    private static final long DAY = 86_400_000;

    private final RedisStore store;
    private final SignIn x;
    private final String owner;

    SignInSteps(RedisStore store, SignIn x) {
        this.store = store;
        this.x = x;
        owner = x.principal.owner();
    }

    /**
     * Makes all steps.
     *
     * @throws SessionException TOO_MANY, REVOKED, UNAVAILABLE; UNKNOWN_OUTCOME: the session may be
     *     stored
     */
    void run() {
        long began = began();
        Record old = leave();
        try {
            storeSession(began, old);
        } catch (SessionException e) {
            if (e.kind() != Kind.UNKNOWN_OUTCOME && x.from != null) {
                stay();
            }
            throw e;
        }
        if (old != null) {
            store.ends.moved(x.from, old.principal == null ? null : old.principal.owner());
        }
        checkRevoked(began);
        if (old != null && !sameUser(old)) {
            left(old);
        }
        if (confirms()) {
            confirm();
        }
    }

    private boolean sameUser(Record old) {
        return old != null && old.principal != null && old.principal.owner().equals(owner);
    }

    private boolean confirms() {
        return (x.from != null || x.max > 0) && x.idle - FIRST > Math.min(x.idle / 20, 60_000);
    }

    /** Step 1. Returns when the authentication began, by the server's clock. */
    private long began() {
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
    private Record leave() {
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
                    stay();
                    throw e.forSession(x.from.handle());
                }
            case "gone", "moved":
                return null;
            default:
                throw r.unexpected("session " + x.from.handle());
        }
    }

    private void stay() {
        try {
            store.run("move.lua", Repeat.ALWAYS, List.of(x.from.key(store.namespace)), List.of("stay", x.id.name()));
        } catch (SessionException e) {
            // It accepts writes again after ten seconds.
        }
    }

    /** Step 3. */
    private void storeSession(long began, Record old) {
        x.stored = x.fields.apply(old);
        while (true) {
            UserIndex index = readIndex(old);
            Reply r = store.run("signin.lua", Repeat.ALWAYS, signInKeys(index, old), signInArgs(began, old, index));
            switch (r.status()) {
                case "ok" -> {
                    x.time = r.number(1);
                    r.texts(2).forEach(name -> store.ends.ended(new SessionId(x.id.bucket(), name), owner));
                    return;
                }
                // An earlier reply was lost; another sign-in may have ended it since
                case "again", "exists" -> {
                    x.time = store.load(x.id).now();
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

    private UserIndex readIndex(Record old) {
        if (x.max == 0) { // keeps the index small: a sample, in one of eight sign-ins
            if (ThreadLocalRandom.current().nextInt(8) > 0) {
                return new UserIndex(List.of(), "");
            }
            return new UserIndex(UserIndex.sample(store, owner).entries(), "");
        }
        UserIndex all = UserIndex.all(store, owner);
        int extra = all.entries().size() - MAX_OTHERS;
        if (extra <= 0) {
            return all;
        }
        // A script takes no more keys: remove what has ended, and end the oldest over the limit.
        List<String> names = new ArrayList<>(all.entries().stream().map(UserIndex.Entry::name).toList());
        UserSessions.clean(store, owner, names);
        all = UserIndex.all(store, owner);
        if (all.entries().size() <= MAX_OTHERS) {
            return all;
        }
        if (x.refuse) {
            throw new SessionException(Kind.TOO_MANY, "the user has as many sessions as allowed");
        }
        String kept = sameUser(old) ? x.from.name() : "";
        names = new ArrayList<>(all.entries().stream().map(UserIndex.Entry::name).filter(name -> !name.equals(kept)).toList());
        UserSessions.end(store, owner, names.subList(0, names.size() - x.max));
        return UserIndex.all(store, owner);
    }

    private List<String> signInKeys(UserIndex index, Record old) {
        List<String> names = new ArrayList<>(index.entries().stream().map(UserIndex.Entry::name).toList());
        if (sameUser(old) && !names.contains(x.from.name())) {
            names.add(x.from.name());
        }
        List<String> keys = new ArrayList<>(List.of(x.id.key(store.namespace), SessionId.indexKey(store.namespace, owner), UserIndex.revocationsKey(store, owner)));
        keys.addAll(UserIndex.keys(store, owner, names));
        return keys;
    }

    private List<Object> signInArgs(long began, Record old, UserIndex index) {
        List<Object> args = new ArrayList<>(List.of(x.secret, x.verifierHash, Op.size(x.stored), x.idle, x.lifetime,
            confirms() ? FIRST : x.idle, index.version(), began, x.authenticatedAgo, x.max, x.refuse ? 1 : 0,
            store.knownRevoked(), sameUser(old) ? x.from.name() : "", x.principal.suffix()));
        x.principal.parts().forEach((name, part) -> args.addAll(List.of(name, part)));
        x.stored.forEach((name, value) -> args.addAll(List.of(name, value)));
        return args;
    }

    /** Step 4: everybody may have been revoked meanwhile. That key is in another slot. */
    private void checkRevoked(long began) {
        long revoked;
        try {
            revoked = store.readRevoked()[0];
        } catch (Malformed | SessionException e) {
            throw new SessionException(Kind.UNKNOWN_OUTCOME, "the last revocation of everybody is not known", e);
        }
        if (began <= revoked) {
            store.ends.ended(x.id, owner);
            UserSessions.end(store, owner, List.of(x.id.name()));
            throw new SessionException(Kind.REVOKED, "everybody was revoked after the authentication began");
        }
    }

    /** Step 5. If it fails, it is repeated as an end is. */
    private void left(Record old) {
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
    private void confirm() {
        try {
            store.run("touch.lua", Repeat.ALWAYS, List.of(x.id.key(store.namespace), x.id.revocationsKey(store.namespace)),
                List.of(x.verifierHash, store.knownRevoked(), 0));
        } catch (SessionException e) {
            throw new SessionException(Kind.UNKNOWN_OUTCOME, "the sign-in was not confirmed", e);
        }
    }
}
