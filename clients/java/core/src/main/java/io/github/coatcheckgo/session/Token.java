package io.github.coatcheckgo.session;

import java.nio.ByteBuffer;
import java.util.Arrays;

/** A session's token, as the browser has it. */
final class Token {
    private static final int SIZE = 39;
    static final int MAC = 18;

    final int bucket;
    final byte[] selector;
    final long generation;
    private final byte[] verifier;
    private SessionId id; // computed once
    private String verifierHash;

    private Token(int bucket, byte[] selector, long generation, byte[] verifier) {
        this.bucket = bucket;
        this.selector = selector;
        this.generation = generation;
        this.verifier = verifier;
    }

    /** A token of a new session. */
    static Token create(int bucket) {
        return new Token(bucket, Crypto.random(16), 0, Crypto.random(16));
    }

    static int randomBucket() {
        byte[] b = Crypto.random(2);
        return (b[0] & 0xff) << 8 | b[1] & 0xff;
    }

    /** The same session's token with a new verifier. */
    Token renewed(long newGeneration) {
        return new Token(bucket, selector, newGeneration & 0xffffffffL, Crypto.random(16));
    }

    Token withGeneration(long other) {
        return new Token(bucket, selector, other, verifier);
    }

    /** Parses a token. Returns null for a text that is none, or, with keys, has no valid MAC. */
    static Token parse(String text, Keys keys) {
        if (text.length() != 52 && text.length() != 76) {
            return null;
        }
        byte[] all = Texts.fromBase64(text);
        if (all == null || all[0] != 1) {
            return null;
        }
        if (keys.sign()) {
            boolean valid = all.length == SIZE + MAC
                && keys.verifies(Arrays.copyOf(all, SIZE), Arrays.copyOfRange(all, SIZE, all.length));
            if (!valid) {
                return null;
            }
        }
        ByteBuffer in = ByteBuffer.wrap(all);
        in.get();
        int bucket = in.getShort() & 0xffff;
        byte[] selector = new byte[16];
        in.get(selector);
        long generation = in.getInt() & 0xffffffffL;
        byte[] verifier = new byte[16];
        in.get(verifier);
        return new Token(bucket, selector, generation, verifier);
    }

    String text(Keys keys) {
        byte[] bytes = ByteBuffer.allocate(SIZE).put((byte) 1).putShort((short) bucket).put(selector)
            .putInt((int) generation).put(verifier).array();
        if (!keys.sign()) {
            return Texts.base64(bytes);
        }
        byte[] mac = keys.mac(bytes);
        byte[] all = Arrays.copyOf(bytes, SIZE + MAC);
        System.arraycopy(mac, 0, all, SIZE, MAC);
        return Texts.base64(all);
    }

    synchronized SessionId id() {
        if (id == null) {
            id = new SessionId(String.format("%04x", bucket), Crypto.hash(selector));
        }
        return id;
    }

    synchronized String verifierHash() {
        if (verifierHash == null) {
            verifierHash = Crypto.hash(verifier);
        }
        return verifierHash;
    }

    byte[] verifier() {
        return verifier.clone();
    }

    boolean sameSession(Token o) {
        return bucket == o.bucket && Arrays.equals(selector, o.selector);
    }

    @Override
    public boolean equals(Object o) {
        return o instanceof Token t && sameSession(t) && generation == t.generation && Arrays.equals(verifier, t.verifier);
    }

    @Override
    public int hashCode() {
        return Arrays.hashCode(selector);
    }

    /** Never the token itself: this may end up in a log. */
    @Override
    public String toString() {
        return id().handle();
    }
}
