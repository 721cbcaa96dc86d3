package io.github.coatcheckgo.session;

import java.util.TreeMap;
import java.util.function.Function;

/** A sign-in: what it stores, and what came of it. See {@link SignInSteps}. */
final class SignIn {
    SessionId id;
    String secret;
    String verifierHash;
    Principal principal;
    long idle;
    long lifetime;
    long beganAt; // System.nanoTime when the authentication began
    long authenticatedAgo;
    int max;
    boolean refuse;
    SessionId from; // null: none
    String fromVerifier;
    /** Makes the fields of the new session from the old record, or from null. */
    Function<Record, TreeMap<String, byte[]>> fields;

    // Results.
    TreeMap<String, byte[]> stored;
    long time;
}
