package io.github.coatcheckgo.session;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** The scripts of the format, which all languages share. They are loaded by name. */
record Script(String name, String source, String sha1) {
    private static final Map<String, Script> LOADED = new ConcurrentHashMap<>();

    /** Returns the script in the file lua/name. */
    static Script of(String name) {
        return LOADED.computeIfAbsent(name, n -> {
            try (InputStream in = Script.class.getResourceAsStream("lua/" + n)) {
                if (in == null) {
                    throw new IllegalArgumentException("no script " + n);
                }
                return inline(n, new String(in.readAllBytes(), StandardCharsets.UTF_8));
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        });
    }

    static Script inline(String name, String source) {
        try {
            byte[] sum = MessageDigest.getInstance("SHA-1").digest(source.getBytes(StandardCharsets.UTF_8));
            return new Script(name, source, java.util.HexFormat.of().formatHex(sum));
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }
}
