package io.github.coatcheckgo.session;

import static org.junit.jupiter.api.Assertions.assertThrows;

import io.github.coatcheckgo.session.SessionException.Kind;

/** What tests expect of calls that fail. */
final class Failures {
    private Failures() { }

    /** Returns the kind of the exception that the body throws. */
    static Kind kind(Runnable body) {
        return assertThrows(SessionException.class, body::run).kind();
    }
}
