package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.RedisStore.Repeat;
import io.github.coatcheckgo.session.RedisStore.Reply;
import io.github.coatcheckgo.session.RequestState.Phase;
import io.github.coatcheckgo.session.SessionException.Kind;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;

/** Stores the changes of a request, each time in one atomic step. */
final class Commits {
    private static final long SLACK = 2000; // the script may run up to the timeout later

    private final RequestState s;
    private final SessionReader reader;
    private final View view;
    private byte[] lastValue; // the value of the last operation, as bytes
    private CompletableFuture<?> touching;

    Commits(RequestState s, SessionReader reader) {
        this.s = s;
        this.reader = reader;
        view = s.view;
    }

    /** An operation that the store refused for what it compares, and the value that is stored. */
    static final class Refused extends RuntimeException {
        private static final long serialVersionUID = 1;
        final transient Op op;
        final transient byte[] present;

        Refused(Op op, byte[] present) {
            super(null, null, false, false);
            this.op = op;
            this.present = present;
        }
    }

    /** A new verifier: a renewal, or with a minimum age a rotation. */
    static final class Renewal {
        final Token token;
        final long minAge; // 0: a renewal
        long generation; // of the session afterwards
        boolean kept; // the rotation did not take place

        Renewal(Token token, long minAge) {
            this.token = token;
            this.minAge = minAge;
        }

        private void arguments(List<Object> args) {
            boolean rotate = minAge > 0;
            args.addAll(List.of(rotate ? "rotate" : "renew", token.verifierHash(), rotate ? Renewals.GRACE : "", rotate ? minAge : ""));
        }
    }

    /**
     * Commits the changes, with more operations or a renewal. Returns the values of the operations.
     *
     * @throws Refused if the store refused one of those more
     */
    List<String> send(List<Op> more, Renewal renewal) {
        if (s.phase == Phase.ANONYMOUS) {
            mayIssueToken();
        } else {
            s.refuse();
        }
        List<Op> all = new ArrayList<>(view.ops);
        all.addAll(more);
        try {
            List<String> values = s.phase == Phase.ANONYMOUS ? create(all) : apply(all, renewal);
            view.ops.clear();
            s.response.confirmed = System.nanoTime();
            if (view.record != null) {
                view.settle(all, values);
            }
            return values;
        } catch (SessionException e) {
            s.outcome.keep(e);
            throw e;
        }
    }

    /** Returns the value that the last "take" removed. */
    byte[] taken() {
        return lastValue;
    }

    /** Makes the view exact after a commit. What the request changed reads as it left it. */
    void reread(List<Op> done, List<String> values) {
        try {
            Reading r = reader.ask(s.token);
            if (r.outcome == Reading.Outcome.CURRENT || r.outcome == Reading.Outcome.GRACE) {
                s.become(r.record);
                if (view.record != null) {
                    view.settle(done, values);
                }
            }
        } catch (SessionException e) {
            // The commit has succeeded. The next change finds out why.
        }
    }

    /** Throws why the response cannot bring a new token. */
    void mayIssueToken() {
        if (s.response.sent) {
            throw headerSent();
        }
        if (s.response.isHandedOut()) {
            return;
        }
        if (s.credentials.inHeader) {
            throw RequestState.fail(Kind.NOT_SIGNED_IN, "the token in the Authorization header opens no session, and a new token"
                + " cannot go back in a cookie: use bearerToken");
        }
        // A request that another site caused came without the cookie, because of SameSite. A new
        // cookie would replace the visitor's own.
        String why = s.crossOrigin.get();
        if (why != null) {
            throw RequestState.fail(Kind.CROSS_ORIGIN, why);
        }
    }

    static SessionException headerSent() {
        return RequestState.fail(Kind.HEADER_SENT, "the response cannot carry a new cookie any more");
    }

    // A new session.

    private List<String> create(List<Op> all) {
        Config c = s.m.config;
        TreeMap<String, byte[]> fields = new TreeMap<>();
        List<String> values = new ArrayList<>();
        all.forEach(op -> values.add(make(op, fields)));
        long size = Op.size(fields);
        if (size > c.maxSize) {
            throw RequestState.fail(Kind.TOO_LARGE, "more than " + c.maxSize + " bytes");
        }
        Token created = Token.create(Token.randomBucket());
        long idle = c.idleTimeout.toMillis();
        long firstUse = c.firstUseTimeout.toMillis();
        long lifetime = c.lifetime.toMillis();
        List<Object> args = new ArrayList<>(List.of(s.secret(), created.verifierHash(), size, idle, lifetime, firstUse, 0));
        fields.forEach((name, value) -> args.addAll(List.of(name, value)));
        Reply r = s.m.store.run("create.lua", Repeat.ALWAYS, List.of(created.id().key(s.m.store.namespace)), args);
        long time = switch (r.status()) {
            case "ok" -> r.number(1);
            case "again" -> s.m.store.load(created.id()).now(); // an earlier reply was lost
            default -> throw r.unexpected("session " + created.id().handle());
        };
        Record made = s.newRecord(created, time, idle, lifetime);
        made.fields.putAll(fields);
        made.seen = time - Math.max(0, idle - firstUse);
        s.token = created;
        s.response.bringFirst(false, Response.age(c.persistent, lifetime));
        s.become(made);
        view.at(time);
        return values;
    }

    /** Makes an operation on the fields of a new session, as apply.lua does. Returns its value. */
    private String make(Op op, TreeMap<String, byte[]> fields) {
        byte[] old = fields.get(op.key());
        switch (op.kind()) {
            case "take" -> {
                fields.remove(op.key());
                lastValue = old;
                return old == null ? null : Texts.utf8(old);
            }
            case "swap" -> {
                if (!Arrays.equals(op.a(), Op.present(old))) {
                    throw new Refused(op, old);
                }
                fields.put(op.key(), Arrays.copyOfRange(op.b(), 1, op.b().length));
                return null;
            }
            default -> {
                op.apply(fields, s.m.config.maxSize);
                if (op.exceeds(old, fields)) {
                    throw new Refused(op, old);
                }
                return op.kind().equals("add") ? Texts.utf8(fields.get(op.key())) : null;
            }
        }
    }

    // A stored session.

    /**
     * Changes the session. If the browser has used the token that this request rotated to, it goes
     * on with that.
     */
    List<String> apply(List<Op> all, Renewal renewal) {
        try {
            return applyOnce(all, renewal);
        } catch (SessionException e) {
            if (e.kind() == Kind.ENDED && s.response.rotatedTo != null) {
                s.token = s.response.rotatedTo;
                s.response.rotatedTo = null;
                s.phase = Phase.LIVE;
                return applyOnce(all, renewal);
            }
            throw e;
        }
    }

    private List<String> applyOnce(List<Op> all, Renewal renewal) {
        if (s.m.store.ends.refusal(s.token.id()) != null) {
            throw s.lost(Phase.ENDED);
        }
        long then = view.serverTime() + SLACK;
        boolean clock = !s.passive && (view.record.touchDue(s.shown(), then) || then >= view.record.expires());
        List<Object> args = new ArrayList<>(List.of(s.token.verifierHash(), s.m.config.maxSize, s.global(),
            (clock ? "1" : "0") + "0" + (s.response.bringsToken() ? "1" : "0")));
        if (renewal != null) {
            renewal.arguments(args);
        }
        all.forEach(op -> op.arguments(args));
        Repeat repeat = renewal != null && renewal.minAge == 0 ? Repeat.ALWAYS : Repeat.ONCE;
        Reply r = s.m.store.run("apply.lua", repeat, s.keys(), args);
        switch (r.status()) {
            case "ok", "kept" -> {
                s.touched |= clock;
                return applied(r, all, renewal);
            }
            case "gone" -> throw s.lost(Phase.ENDED);
            case "moved" -> throw s.lost(Phase.MOVED);
            case "refused" -> throw refused(r, all.get((int) r.number(1)));
            default -> throw r.unexpected("session " + s.token.id().handle());
        }
    }

    private List<String> applied(Reply r, List<Op> all, Renewal renewal) {
        int first = 3;
        if (renewal != null) {
            first = 4;
            renewal.generation = r.number(3);
            renewal.kept = r.status().equals("kept");
        }
        if (r.number(1) > 0) {
            view.at(r.number(1));
        }
        List<String> values = new ArrayList<>();
        for (int i = 0; i < all.size(); i++) {
            values.add(r.text(first + i));
        }
        lastValue = all.isEmpty() ? null : r.bytes(first + all.size() - 1);
        return values;
    }

    private static RuntimeException refused(Reply r, Op op) {
        String why = r.text(2);
        if (why.equals("conflict") || why.equals("entries")) {
            return new Refused(op, r.bytes(3));
        }
        boolean large = why.equals("large") || why.equals("fields");
        return RequestState.fail(large ? Kind.TOO_LARGE : Kind.INVALID, "field " + op.key() + ": " + why);
    }

    // Uses.

    /** Records the use of the session, if that is due. With no way to repeat, it does not wait. */
    void touch(Repeat repeat) {
        if (s.phase != Phase.LIVE || s.passive || s.touched || !view.record.touchDue(s.shown(), view.serverTime())) {
            return;
        }
        s.touched = true;
        boolean renewed = s.response.renewed;
        String name = renewed ? "apply.lua" : "touch.lua";
        // A use by the request that renewed the token is a change without operations.
        List<Object> args = renewed ? List.of(s.token.verifierHash(), s.m.config.maxSize, s.global(), "101")
            : List.of(s.token.verifierHash(), s.global(), 0);
        if (repeat == null) {
            touching = s.m.store.send(name, s.keys(), args);
            return;
        }
        Reply r = s.m.store.run(name, repeat, s.keys(), args);
        if (!r.status().equals("ok")) {
            throw s.lost(r.status().equals("moved") ? Phase.MOVED : Phase.ENDED);
        }
    }

    /** Waits for {@link #touch}, for tests. */
    void awaitTouch() {
        if (touching != null) {
            touching.exceptionally(e -> null).orTimeout(5, java.util.concurrent.TimeUnit.SECONDS).exceptionally(e -> null).join();
        }
    }
}
