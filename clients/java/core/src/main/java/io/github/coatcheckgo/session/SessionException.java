package io.github.coatcheckgo.session;

/**
 * An error of a session. {@link #kind} says which; the message is for the log, and clients never
 * see it. {@link #clientMessage} is the sentence for the client.
 */
public final class SessionException extends RuntimeException {
    private static final long serialVersionUID = 1;

    /** The kinds of error. They are those of the Go library. */
    public enum Kind {
        /**
         * The store did not answer, or holds something that this version of the format does not
         * allow. Nothing was stored.
         */
        UNAVAILABLE(503, "The service is not available at the moment. Please try again."),
        /** The store did not answer after a change was sent. It may or may not have been stored. */
        UNKNOWN_OUTCOME(503, "It is not known whether your change was saved. Please check before you try again."),
        /**
         * The session ended, or got a new token, while the request was running. Its changes were
         * refused.
         */
        ENDED(409, "Your session has changed. Please reload and try again."),
        /**
         * A change needs a new cookie, but the response header was already sent. Nothing was
         * stored.
         */
        HEADER_SENT(500),
        /** The session would exceed the size limit or another limit of the format. */
        TOO_LARGE(500),
        /**
         * The limit of an addWithin or setWithin refused it. It changed nothing, and the session
         * takes more changes.
         */
        LIMIT(409, "This is more than allowed. Nothing was changed."),
        /**
         * An argument is not valid: the name of a field, a value, a sum, a login, a user or a
         * handle.
         */
        INVALID(500),
        /** A stored value has another type than the field that reads it. */
        DECODE(500),
        /** A stored value is sealed and no key opens it. */
        SEALED(500),
        /** The request carries two different tokens. */
        AMBIGUOUS(400, "The request carries two different session tokens. Please delete this site's cookies."),
        /** Another site caused the request. */
        CROSS_ORIGIN(403, "Cross-origin request refused."),
        /** The request has no CSRF token of its session. */
        CSRF(403, "This page is out of date. Please reload it and try again."),
        /** Nobody is signed in. */
        NOT_SIGNED_IN(401, "Please sign in."),
        /** The user has as many sessions as allowed. */
        TOO_MANY(409, "You are signed in on as many devices as allowed. Please sign out on one of them."),
        /** The user's sessions were revoked after this authentication began. */
        REVOKED(401, "Please sign in again."),
        /** The user has no session with this handle. */
        NOT_FOUND(404, "There is no such session.");

        private final int status;
        private final String text;

        Kind(int status) {
            this(status, "Something went wrong. The error has been logged.");
        }

        Kind(int status, String text) {
            this.status = status;
            this.text = text;
        }

        /** The HTTP status of a response to this error. */
        public int status() {
            return status;
        }
    }

    private final Kind kind;

    public SessionException(Kind kind, String message) {
        super(message);
        this.kind = kind;
    }

    public SessionException(Kind kind, String message, Throwable cause) {
        super(message, cause);
        this.kind = kind;
    }

    public Kind kind() {
        return kind;
    }

    /** The HTTP status of a response to this error. */
    public int status() {
        return kind.status;
    }

    /** The sentence for the client. It does not tell the cause. */
    public String clientMessage() {
        return kind.text;
    }

    /** Reports whether the store did not answer: UNAVAILABLE or UNKNOWN_OUTCOME. */
    public boolean isUnavailable() {
        return kind.status == 503;
    }
}
