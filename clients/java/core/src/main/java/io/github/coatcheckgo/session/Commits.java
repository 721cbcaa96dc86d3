package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.DataState.Phase;
import io.github.coatcheckgo.session.RedisStore.Repeat;
import io.github.coatcheckgo.session.RedisStore.Reply;
import io.github.coatcheckgo.session.SessionException.Kind;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;

/** Stores the changes of a session. */
final class Commits extends Committer {
    final RequestState s;
    final SessionReader reader;
    private final View view;

    Commits(RequestState s) {
        super(s);
        this.s = s;
        reader = new SessionReader(s);
        view = s.view;
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

    @Override
    List<String> send(List<Op> more) {
        return send(more, null);
    }

    /** Is {@link #send(List)}, with a renewal. */
    List<String> send(List<Op> more, Renewal renewal) {
        boolean creates = s.phase == Phase.ANONYMOUS;
        if (creates) {
            mayIssueToken();
        } else {
            s.refuse();
        }
        List<Op> all = changes(more);
        List<String> values = settle(() -> new Sent(all, creates ? create(all) : apply(all, renewal), creates));
        s.response.confirmed = System.nanoTime();
        return values;
    }

    @Override
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
        List<String> values = makeAll(all, fields);
        Token created = Token.create(Token.randomBucket());
        long idle = c.idleTimeout.toMillis();
        long firstUse = c.firstUseTimeout.toMillis();
        long lifetime = c.lifetime.toMillis();
        Reply r = runCreate(s.secret(), created.id().key(s.m.store.namespace), created.verifierHash(), fields, idle, lifetime, firstUse);
        long time = switch (r.status()) {
            case "ok" -> r.number(1);
            case "again" -> s.m.store.load(created.id()).now(); // an earlier reply was lost
            default -> throw r.unexpected("session " + created.id().handle());
        };
        Record made = DataState.newRecord(s.secret, created.verifierHash(), time, idle, lifetime);
        made.fields.putAll(fields);
        made.seen = time - Math.max(0, idle - firstUse);
        s.token = created;
        s.response.bringFirst(false, Response.age(c.persistent, lifetime));
        s.become(made);
        view.at(time);
        return values;
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
            if (e.kind() == Kind.ENDED && s.adoptRotated()) {
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
                if (renewal == null) {
                    return applied(r, all, 3);
                }
                renewal.generation = r.number(3);
                renewal.kept = r.status().equals("kept");
                return applied(r, all, 4);
            }
            case "gone" -> throw s.lost(Phase.ENDED);
            case "moved" -> throw s.lost(Phase.MOVED);
            case "refused" -> throw refused(r, all);
            default -> throw r.unexpected("session " + s.token.id().handle());
        }
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
}
