package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.DataState.Phase;
import io.github.coatcheckgo.session.SessionException.Kind;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;

/** Signs a user in: checks the login, and gives the request the new session. */
final class SigningIn {
    private static final long DAY_NANOS = 86_400_000_000_000L;

    private final RequestState s;
    private final Commits commits;
    private final Config config;

    SigningIn(RequestState s, Commits commits) {
        this.s = s;
        this.commits = commits;
        config = s.m.config;
    }

    private static SessionException invalid(String why) {
        return RequestState.fail(Kind.INVALID, "Login: " + why);
    }

    /**
     * Signs in. Changes that are not committed go to the new session.
     *
     * @throws SessionException TOO_MANY or REVOKED: the session goes on as it was; others stop the
     *     request
     */
    void signIn(Login login) {
        SignIn x = signInOf(login);
        if (s.phase == Phase.UNREAD) {
            throw new IllegalStateException("read() comes first");
        }
        if (s.isOver() && s.outcome.error != null && s.outcome.error.kind() == Kind.ENDED) {
            s.forgive(); // signing in is how to go on after an end
        }
        if (s.phase == Phase.FAILED) {
            s.outcome.keep(s.readError);
        }
        s.outcome.report();
        try {
            enter(x);
        } catch (SessionException e) {
            if (e.kind() != Kind.TOO_MANY && e.kind() != Kind.REVOKED) {
                s.outcome.keepReported(e);
            }
            throw e;
        }
    }

    // The login.

    private SignIn signInOf(Login l) {
        if (Texts.hasLoneSurrogate(l.user)) {
            throw invalid("the user is not Unicode");
        }
        Principal.Who in = new Principal.Who(Texts.bytes(l.user), l.methods, Texts.cut(l.device, 128), Texts.cut(l.userAgent, 512),
            Texts.cut(l.address, 64));
        String wrong = in.check();
        if (wrong == null && (l.level < 0 || l.level > 99)) {
            wrong = "a level is 0 to 99";
        }
        if (wrong != null) {
            throw invalid(wrong);
        }
        SignIn x = new SignIn();
        limits(l, x);
        times(l, x);
        x.secret = Texts.base64(Crypto.random(16));
        String info = in.encode();
        if (config.seal) {
            info = s.m.keys.seal(x.secret, "@i", Texts.bytes(info));
        }
        boolean persistent = !l.remember.isZero() || config.persistent;
        x.principal = new Principal(s.m.keys.owner(in.user()), 0, l.level, persistent, info);
        x.max = config.maxPerUser;
        x.refuse = config.refuseExtra;
        return x;
    }

    private void limits(Login l, SignIn x) {
        long remember = l.remember.toMillis();
        long lifetime = l.lifetime.toMillis();
        boolean valid = l.remember.isZero() || remember > 0 && l.remember.compareTo(config.maxRemember) <= 0;
        valid &= l.lifetime.isZero() || lifetime > 0 && l.lifetime.compareTo(config.lifetime) <= 0;
        if (!valid || !l.remember.isZero() && !l.lifetime.isZero()) {
            throw invalid("remember is at most Config.maxRemember, lifetime at most Config.lifetime, and not both are set");
        }
        x.lifetime = remember > 0 ? remember : lifetime > 0 ? lifetime : config.lifetime.toMillis();
        x.idle = remember > 0 ? remember : Math.min(config.idleTimeout.toMillis(), x.lifetime);
    }

    private void times(Login l, SignIn x) {
        long ago = l.began == null ? 0 : nanosAgo(l.began);
        x.beganAt = l.began == null ? s.began : System.nanoTime() - ago;
        if (ago > DAY_NANOS) {
            throw RequestState.fail(Kind.INVALID, "Login.began is more than 24 h ago");
        }
        if (l.authenticated != null) {
            long before = config.clock.instant().toEpochMilli() - l.authenticated.toEpochMilli();
            if (before < -60_000 || before > Config.MAX_LIFETIME.toMillis() - 60_000) {
                throw RequestState.fail(Kind.INVALID, "Login.authenticated is more than 10 years ago, or more than a minute ahead");
            }
            x.authenticatedAgo = Math.max(0, before);
        }
    }

    private long nanosAgo(Instant at) {
        Duration d = Duration.between(at, config.clock.instant());
        return d.compareTo(Duration.ofDays(30)) > 0 ? Long.MAX_VALUE / 4 : Math.max(0, d.toNanos());
    }

    // The new session.

    private void enter(SignIn x) {
        // Else bearerToken can hand out the new token
        if (!s.credentials.inHeader || s.response.sent) {
            commits.mayIssueToken();
        }
        List<Op> mine = new ArrayList<>(s.reseal(s.view.ops, s.secret, x.secret));
        Token t = Token.create(Keys.bucket(x.principal.owner()));
        x.id = t.id();
        x.verifierHash = t.verifierHash();
        if (s.phase == Phase.LIVE) {
            x.from = s.token.id();
            x.fromVerifier = s.token.verifierHash();
        }
        x.fields = old -> {
            TreeMap<String, byte[]> fields = kept(old, x);
            mine.forEach(op -> op.apply(fields, config.maxSize));
            if (Op.size(fields) > config.maxSize) {
                throw RequestState.fail(Kind.TOO_LARGE, "more than " + config.maxSize + " bytes");
            }
            return fields;
        };
        try {
            new SignInSteps(s.m.store, x).run();
        } catch (SessionException e) {
            if (e.kind() == Kind.UNKNOWN_OUTCOME && x.stored != null && x.time > 0) {
                issue(t, x); // the session exists, so its token leaves
            }
            throw e;
        }
        s.view.ops.clear();
        issue(t, x);
    }

    private void issue(Token t, SignIn x) {
        s.secret = x.secret;
        Record made = DataState.newRecord(s.secret, t.verifierHash(), x.time, x.idle, x.lifetime);
        made.fields.putAll(x.stored);
        Principal p = x.principal;
        made.principal = new Principal(p.owner(), Math.max(0, x.time - x.authenticatedAgo), p.level(), p.persistent(), p.info());
        s.token = t;
        s.response.bringFirst(true, Response.age(p.persistent(), x.lifetime));
        s.touched = false;
        s.phase = Phase.UNREAD;
        if (!made.principal.sealed()) {
            try {
                made.who = Principal.parse(p.info());
            } catch (Malformed e) {
                throw new IllegalStateException(e);
            }
        }
        s.become(made);
        s.view.at(x.time);
    }

    /** Returns the fields that the new session keeps of the old one, or of none. */
    private TreeMap<String, byte[]> kept(Record old, SignIn x) {
        TreeMap<String, byte[]> kept = new TreeMap<>();
        if (old == null) {
            return kept;
        }
        boolean same = old.principal != null && old.principal.owner().equals(x.principal.owner());
        old.fields.forEach((name, value) -> {
            boolean named = config.keepFields.contains(Names.field(name)) || s.m.userField(name) != null;
            if (same || old.principal == null && named) {
                kept.put(name, s.m.keys.resealed(name, value, old.id, x.secret));
            }
        });
        return kept;
    }
}
