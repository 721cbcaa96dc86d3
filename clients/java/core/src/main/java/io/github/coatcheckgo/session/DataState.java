package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.SessionException.Kind;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Supplier;

/** What the parts of a {@link Data} share. They hold the lock while they use it. */
abstract class DataState {
    enum Phase {
        UNREAD,
        /** Nothing is stored. */
        ANONYMOUS,
        LIVE,
        /** The session ended while the request was running. */
        ENDED,
        /** The session got a new token while the request was running. */
        MOVED,
        /** It could not be read. */
        FAILED
    }

    final Sessions m;
    final View view;
    final Outcome outcome = new Outcome();
    private final ReentrantLock lock = new ReentrantLock();

    Phase phase = Phase.UNREAD;
    SessionException readError; // why reading failed
    // What sealed values are bound to: the id of a session, the owner of user data; null: not chosen
    String secret;
    boolean touched; // the use is recorded

    DataState(Sessions m) {
        this.m = m;
        view = new View(m.config.maxSize);
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

    /** Throws why no changes are taken. */
    void refuse() {
        switch (phase) {
            case UNREAD -> throw new IllegalStateException("read() comes first");
            case ENDED, MOVED -> throw ended();
            case FAILED -> throw readError;
            default -> { }
        }
    }

    static SessionException ended() {
        return fail(Kind.ENDED, "the session ended, or got a new token, while the request was running");
    }

    /** Drops the kept error, unless it is that of reading. */
    void forgive() {
        if (phase != Phase.FAILED) {
            outcome.forgive();
        }
    }

    /** Returns the secret, and chooses that of a new session. */
    String secret() {
        if (secret == null) {
            secret = newSecret();
        }
        return secret;
    }

    static String newSecret() {
        return Texts.base64(Crypto.random(16));
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

    /** Returns a record that has just been stored. */
    static Record newRecord(String id, String verifier, long time, long idle, long lifetime) {
        Record r = new Record();
        r.id = id;
        r.current = verifier;
        r.revision = 1;
        r.created = time;
        r.issued = time;
        r.seen = time;
        r.deadline = time + lifetime;
        r.idle = idle;
        return r;
    }
}
