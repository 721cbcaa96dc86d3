package io.github.coatcheckgo.session;

/** A stored value is not one that this version of the format allows. */
final class Malformed extends Exception {
    private static final long serialVersionUID = 1;
    final String name;

    Malformed(String name, String why) {
        super("malformed: " + name + ": " + why);
        this.name = name;
    }

    SessionException forSession(String handle) {
        return about("session " + handle);
    }

    SessionException about(String what) {
        return new SessionException(SessionException.Kind.UNAVAILABLE, what + ": " + getMessage());
    }
}
