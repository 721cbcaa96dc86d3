package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.SessionException.Kind;
import java.util.function.Supplier;

/** The error of a request, which stops every further commit, and whether the handler has got it. */
final class Outcome {
    SessionException error; // null: none
    boolean reported;
    boolean stopped; // the request is over

    /**
     * Keeps the first error. An unknown outcome replaces another one. LIMIT is none: the request
     * goes on.
     */
    void keep(SessionException e) {
        if (e.kind() == Kind.LIMIT) {
            return;
        }
        boolean unknown = e.kind() == Kind.UNKNOWN_OUTCOME && error != null && error.kind() != Kind.UNKNOWN_OUTCOME;
        if (error == null || unknown) {
            error = e;
            reported = false;
        }
    }

    void forgive() {
        error = null;
        reported = false;
        stopped = false;
    }

    /** Throws the error to the handler, if there is one. */
    void report() {
        if (error != null) {
            reported = true;
            throw error;
        }
    }

    /** Keeps what the body throws: the handler gets it. */
    <T> T reporting(Supplier<T> body) {
        try {
            return body.get();
        } catch (SessionException e) {
            keepReported(e);
            throw e;
        }
    }

    void keepReported(SessionException e) {
        keep(e);
        reported |= e == error;
    }

    /** Stops all commits for this reason, which the handler knows. */
    void stop(SessionException why) {
        error = why;
        reported = true;
        stopped = true;
    }
}
