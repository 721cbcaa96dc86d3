package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.Commits.Renewal;
import io.github.coatcheckgo.session.DataState.Phase;
import io.github.coatcheckgo.session.RedisStore.Repeat;
import io.github.coatcheckgo.session.SessionException.Kind;
import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.function.Supplier;

/**
 * One request's view of a visitor's session, with the changes that the request made. It is safe for
 * use by the threads of the request; while one of them talks to the store, the others wait.
 *
 * <p>These methods talk to the store: {@link #read}, {@link #userData}, {@link #commit},
 * {@link #reload}, {@link #renew}, {@link #signIn}, {@link #signOut}, {@link #csrfToken}, and of the
 * fields take, update, addWithin and setWithin. Reading and changing a field does not: a mistake is
 * kept, and fails the commit.
 */
public final class Session extends Data {
    static final System.Logger LOG = System.getLogger("coatcheck");

    private final RequestState s;
    private final SessionReader reader;
    private final Commits commits;
    private final Renewals renewals;
    private final OpenedData opened;

    Session(Sessions m, Credentials credentials, Supplier<String> crossOrigin) {
        this(new Commits(new RequestState(m, credentials, crossOrigin)));
    }

    private Session(Commits commits) {
        super(commits.s, commits);
        s = commits.s;
        reader = commits.reader;
        this.commits = commits;
        renewals = new Renewals(commits);
        opened = new OpenedData(this, commits);
    }

    // Reading.

    /**
     * Reads the session, once: one round trip. An unknown visitor gets an empty session, which the
     * first change stores. If the visitor's session ended, or got a new token, after the request
     * began, the session is empty, too, and its changes are refused with ENDED.
     *
     * @return this
     * @throws SessionException UNAVAILABLE, AMBIGUOUS, SEALED, or INVALID if another user key made
     *     the session
     */
    public Session read() {
        s.locking(() -> {
            s.response.used = true;
            if (s.phase == Phase.UNREAD) {
                reader.readTokens();
            }
            if (s.phase == Phase.FAILED) {
                s.outcome.reported = true;
                throw s.readError;
            }
        });
        return this;
    }

    /**
     * Drops the changes that are not committed, and reads the session again: for connections that
     * stay open. The user data that it has opened is read again, too.
     *
     * @throws SessionException ENDED if the session has ended; those of {@link #read}
     */
    @Override
    public void reload() {
        reloadSession();
        opened.forEach(UserData::reload);
    }

    private void reloadSession() {
        s.locking(() -> {
            s.response.used = true;
            s.response.streams = s.response.sent;
            s.view.ops.clear();
            s.forgive();
            boolean had = s.named;
            s.touched = false;
            s.phase = Phase.UNREAD;
            if (had) {
                reader.readToken();
            } else {
                reader.readTokens();
            }
            if (s.phase == Phase.FAILED) {
                throw s.readError;
            }
            if (had && s.phase == Phase.ANONYMOUS) {
                s.reset(Phase.ENDED);
            }
            if (s.isOver()) {
                s.response.setCookie = false;
                throw RequestState.fail(Kind.ENDED, "the session has ended, or got a new token");
            }
            commits.touch(Repeat.ALWAYS);
        });
    }

    /** Returns the signed-in user's id, or "" if nobody is signed in. */
    @Override
    public String user() {
        return s.locked(() -> s.who == null || s.phase != Phase.LIVE ? "" : Info.userOf(s.who));
    }

    /** Returns what is known about the session; null if none is stored. */
    public Info info() {
        return s.locked(() -> s.phase == Phase.LIVE ? Info.of(s.token.id(), s.view.record, s.who) : null);
    }

    /**
     * Reports whether the session ended, or got a new token, while the request was running: it is
     * empty, and takes no changes.
     */
    public boolean isOver() {
        return s.locked(s::isOver);
    }

    /** Returns how long the session lives without a use. */
    public Duration idleTimeout() {
        return s.locked(() -> s.phase == Phase.LIVE ? Duration.ofMillis(s.view.record.idle) : s.m.config.idleTimeout);
    }

    /**
     * Returns the public name of the session, for logs; "" if none is stored. It grants no access.
     */
    public String handle() {
        return s.locked(() -> s.phase == Phase.LIVE ? s.token.id().handle() : "");
    }

    // The data of the user.

    /**
     * Returns the data of the user who is signed in: fields that are the same in all sessions of
     * the user, such as a cart on two devices. Its changes are committed after those of the
     * session, or by its own {@link Data#commit}. While nobody is signed in, it returns this
     * session, so that a page is written once.
     *
     * <p>The first call of a request reads the data: one round trip. If the session holds
     * {@link Config#userFields} from before the sign-in, they move to the data in one atomic step.
     * Before the data is changed, the session is read again. If it has ended, the change fails with
     * ENDED. Revocations do not change the data; {@link Sessions#deleteUser} empties it.
     *
     * @throws SessionException those of {@link #read}; ENDED. TOO_LARGE, INVALID or DECODE if the
     *     fields of the session do not fit into the data: they stay in the session until it ends,
     *     and {@link Sessions#userData} opens the data without them
     */
    public Data userData() {
        UserData data = opened.open();
        return data == null ? this : data;
    }

    // Changing.

    /** {@inheritDoc} Those of the user data that it has opened, too. */
    @Override
    public void discard() {
        super.discard();
        opened.forEach(UserData::discard);
    }

    /** Makes this request no use of the session: it does not prolong it. For polls. */
    public void passive() {
        s.passive = true;
    }

    /** {@inheritDoc} */
    @Override
    public void commit() {
        s.locking(() -> {
            s.response.streams = s.response.sent;
            super.commit();
        });
    }

    /**
     * Changes the token: call it when a user's privileges change. It commits. The old token stops
     * working at once. Errors: those of {@link #commit}.
     */
    public void renew() {
        s.locking(() -> {
            s.outcome.report();
            s.outcome.reporting(() -> {
                renewals.renew();
                return null;
            });
        });
    }

    // Signing in and out.

    /**
     * Signs a user in. It commits. The user gets a new session under a new token; the old token no
     * longer opens a session. Of an anonymous session the fields of {@link Config#keepFields} are
     * kept, and those of {@link Config#userFields} move to the user's data; of a session of the
     * same user all are kept; of another user's none. Changes that this request made and did not
     * commit are kept.
     *
     * @throws SessionException TOO_MANY or REVOKED: the session goes on as it was. HEADER_SENT,
     *     INVALID, and those of {@link #commit}
     */
    public void signIn(Login login) {
        opened.close();
        s.locking(() -> new SigningIn(s, commits).signIn(login));
        opened.joinAtSignIn();
    }

    /**
     * Ends the session at once and for all requests, and drops what was not committed. The response
     * deletes the cookie. Afterwards this is the empty session of an unknown visitor. It works
     * without {@link #read}.
     *
     * @throws SessionException ENDED if a sign-in in another request has replaced the session: the
     *     new session is alive. UNAVAILABLE: the session may be alive, and the response deletes the
     *     cookie
     */
    public void signOut() {
        opened.forEach(UserData::discard);
        s.locking(() -> new SigningOut(s).signOut());
    }

    // Bearer tokens.

    /**
     * Returns the session's token, for a client that sends it as "Authorization: Bearer". It
     * commits, and stores a session that is not stored yet. The response sets no cookie for this
     * token. Errors: those of {@link #commit}.
     *
     * @throws IllegalStateException without {@link Config#bearer}; or if the token came in a
     *     cookie, which scripts must not read: call {@link #renew} first
     */
    public String bearerToken() {
        return s.locked(() -> new HandingOut(s, commits).token());
    }

    /**
     * Reports whether the session's token came in the Authorization header. Do not return what only
     * a page may have, such as a CSRF token, to such a request.
     */
    public boolean isBearer() {
        return s.locked(() -> s.credentials.inHeader);
    }

    // CSRF.

    /**
     * Returns a CSRF token of the session, a different one each time. It stores a session that is
     * not stored yet. Put it into the form field "csrf_token" or the header "X-CSRF-Token".
     */
    public String csrfToken() {
        return s.locked(() -> {
            if (s.phase == Phase.ANONYMOUS) {
                s.outcome.report();
                s.outcome.reporting(() -> commits.send(List.of()));
            }
            s.refuse();
            return Csrf.token(s.secret);
        });
    }

    /**
     * Throws CSRF if the token is not one of this session. A session that is not stored has none.
     */
    public void checkCsrf(String csrfToken) {
        s.locking(() -> {
            boolean has = s.phase == Phase.LIVE || s.phase == Phase.MOVED;
            if (!has || s.secret == null || !Csrf.isValid(s.secret, csrfToken == null ? "" : csrfToken)) {
                throw RequestState.fail(Kind.CSRF, "no CSRF token of this session");
            }
        });
    }

    // For adapters of frameworks.

    /**
     * Reports whether the request's cookie opens a session, so that it needs a CSRF token. For
     * adapters.
     */
    public boolean isOpen() {
        return s.locked(() -> s.phase == Phase.LIVE || s.phase == Phase.MOVED && s.secret != null);
    }

    /**
     * Reports whether the token comes in a cookie, which a browser sends with any request. For
     * adapters.
     */
    public boolean inCookie() {
        return s.locked(s.credentials::inCookie);
    }

    /** Reports whether the handler knows of the error that stops the commit. For adapters. */
    public boolean wasReported() {
        return s.locked(() -> s.outcome.reported);
    }

    /**
     * Commits what the handler changed, first in the session and then in the user data, and rotates
     * an old token. Afterwards it is too late for a new cookie. For adapters, before the response
     * header leaves.
     *
     * @param canSetCookie whether the response can carry a cookie
     * @throws SessionException why nothing was stored; the response must report it
     */
    public void commitBeforeHeader(boolean canSetCookie) {
        s.locking(() -> {
            try {
                commitSession(canSetCookie);
            } finally {
                renewals.recheckCookie();
                s.response.sent = true;
            }
        });
        opened.commit();
    }

    /**
     * Is {@link #commitBeforeHeader}, but the response can still carry another cookie afterwards.
     * For adapters.
     */
    public void commitOnly(boolean canSetCookie) {
        commitSession(canSetCookie);
        opened.commit();
    }

    private void commitSession(boolean canSetCookie) {
        s.locking(() -> {
            if (s.outcome.error != null) {
                throw s.outcome.error;
            }
            Renewal n = renewals.due(canSetCookie);
            if (!s.view.ops.isEmpty()) {
                commits.send(List.of(), n);
                if (n != null) {
                    renewals.rotated(n);
                }
            } else if (n != null) {
                renewals.rotateAlone(n);
            }
        });
    }

    /** Drops the changes and all that follows, after an exception of the handler. For adapters. */
    public void abandon(SessionException why) {
        s.locking(() -> {
            s.view.ops.clear();
            s.outcome.stop(why);
            renewals.recheckCookie();
            s.response.sent = true;
        });
        opened.forEach(d -> d.stop(why));
    }

    /**
     * Records the use of the session and of the user data, if that is due. It does not wait. For
     * adapters, after the response.
     */
    public void touch() {
        s.locking(() -> commits.touch(null));
        opened.forEach(UserData::touch);
    }

    /** Waits for {@link #touch}, for tests. */
    void awaitTouch() {
        commits.awaitTouch();
        opened.forEach(UserData::awaitTouch);
    }

    /**
     * Returns the token that the response brings, or null. For adapters, after
     * {@link #commitBeforeHeader}.
     */
    public String newToken() {
        return s.locked(() -> {
            Token t = s.response.rotatedTo != null ? s.response.rotatedTo : s.token;
            return s.response.setCookie ? t.text(s.m.keys) : null;
        });
    }

    /** Reports whether the response deletes the cookie. For adapters. */
    public boolean deletesToken() {
        return s.locked(s.response::deletes);
    }

    /** The headers of a response. */
    public interface Headers {
        /** Adds a line. */
        void add(String name, String value);

        /** Replaces all lines of the name. */
        void set(String name, String value);

        /** Returns the lines of the name. */
        Collection<String> get(String name);
    }

    /**
     * Writes what the response has to say about the session: the cookie, and how it may be cached.
     * For adapters.
     *
     * @return whether the header sets or deletes a cookie
     */
    public boolean writeHeaders(Headers h) {
        return s.locked(() -> s.response.write(h, s.m.config, newToken()));
    }
}
