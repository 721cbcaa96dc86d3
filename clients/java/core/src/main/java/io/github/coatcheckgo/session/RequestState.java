package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.SessionException.Kind;
import java.util.List;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Supplier;

/** What the parts of a {@link Session} share. They hold the lock while they use it. */
final class RequestState {
    enum Phase {
        UNREAD,
        /** No session is stored. */
        ANONYMOUS,
        LIVE,
        /** The session ended while the request was running. */
        ENDED,
        /** The session got a new token while the request was running. */
        MOVED,
        /** The session could not be read. */
        FAILED
    }

    final Sessions m;
    final Credentials credentials;
    /** Returns why another site caused the request, or null. */
    final Supplier<String> crossOrigin;
    final long began = System.nanoTime();
    final View view;
    final Outcome outcome = new Outcome();
    final Response response;
    private final ReentrantLock lock = new ReentrantLock();

    Phase phase = Phase.UNREAD;
    SessionException readError; // why reading failed
    Token token; // the session's own; null: none
    // The id of the session, or of the one that the first change will store; null: not chosen
    String secret;
    Principal.Who who; // null: nobody is signed in
    boolean passive; // the request is no use of the session
    boolean named; // a read of this request has found the session
    boolean touched; // the use is recorded

    RequestState(Sessions m, Credentials credentials, Supplier<String> crossOrigin) {
        this.m = m;
        this.credentials = credentials;
        response = new Response(credentials);
        this.crossOrigin = crossOrigin;
        view = new View(m.config.maxSize);
        if (!credentials.tokens.isEmpty()) {
            token = credentials.tokens.get(0);
        }
    }

    <T> T locked(Supplier<T> body) {
        lock.lock();
        try {
            return body.get();
        } finally {
            lock.unlock();
        }
    }

    void locking(Runnable body) {
        lock.lock();
        try {
            body.run();
        } finally {
            lock.unlock();
        }
    }

    static SessionException fail(Kind kind, String why) {
        return new SessionException(kind, why);
    }

    /** Throws why the session takes no changes. */
    void refuse() {
        switch (phase) {
            case UNREAD -> throw new IllegalStateException("read() comes first");
            case ENDED, MOVED -> throw ended();
            case FAILED -> throw readError;
            default -> { }
        }
    }

    private static SessionException ended() {
        return fail(Kind.ENDED, "the session ended, or got a new token, while the request was running");
    }

    /** Shows no session. */
    void reset(Phase to) {
        boolean keep = phase == Phase.ANONYMOUS;
        phase = to;
        who = null;
        if (!keep) {
            secret = null;
        }
        view.show(null);
    }

    void cannotRead(SessionException e) {
        reset(Phase.FAILED);
        readError = e;
        outcome.error = e;
    }

    /** Shows a session that is alive. */
    void become(Record r) {
        try {
            r.fields.forEach(m.keys::check);
            Principal.Who opened = m.who(token.id(), r);
            phase = Phase.LIVE;
            who = opened;
            secret = r.id;
            named = true;
            view.show(r);
        } catch (SessionException e) {
            cannotRead(e);
        }
    }

    /** Notes that the session is over, and returns the error. */
    SessionException lost(Phase to) {
        phase = to;
        who = null;
        response.setCookie = false;
        return ended();
    }

    /** Drops the kept error, unless it is that of reading. */
    void forgive() {
        if (phase != Phase.FAILED) {
            outcome.forgive();
        }
    }

    boolean isOver() {
        return phase == Phase.ENDED || phase == Phase.MOVED;
    }

    /** Returns the secret of the session, and chooses that of a new one. */
    String secret() {
        if (secret == null) {
            secret = Texts.base64(Crypto.random(16));
        }
        return secret;
    }

    byte[] open(String name, byte[] value) {
        return value == null || !Keys.isSealed(value) ? value : m.keys.open(secret, name, value);
    }

    byte[] seal(String name, byte[] plain) {
        if (!m.config.seal || plain == null) {
            return plain;
        }
        return Texts.bytes(m.keys.seal(secret(), name, plain));
    }

    /** Returns the keys of scripts that change the session. */
    List<String> keys() {
        SessionId id = token.id();
        String key = id.key(m.store.namespace);
        return view.record.principal == null ? List.of(key) : List.of(key, id.revocationsKey(m.store.namespace));
    }

    /**
     * Returns the time of the last revocation of everybody, or 0 if the session was created later.
     */
    long global() {
        long known = m.store.knownRevoked();
        return view.record.created > known ? 0 : known;
    }

    /** Returns the verifier whose use the request shows; "" for none. */
    String shown() {
        return response.bringsToken() ? "" : token.verifierHash();
    }

    boolean isPersistent() {
        return view.record.principal == null ? m.config.persistent : view.record.principal.persistent();
    }

    /** Returns a record that this request has just stored, under its secret. */
    Record newRecord(Token t, long time, long idle, long lifetime) {
        Record r = new Record();
        r.id = secret;
        r.current = t.verifierHash();
        r.revision = 1;
        r.created = time;
        r.issued = time;
        r.seen = time;
        r.deadline = time + lifetime;
        r.idle = idle;
        return r;
    }
}
