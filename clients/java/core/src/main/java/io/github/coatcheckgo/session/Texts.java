package io.github.coatcheckgo.session;

import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;
import java.util.Base64;

/**
 * Strict conversions of the format's texts. The JDK's own accept more: its Base64 decoder ignores
 * unused bits and padding, {@code Long.parseLong} accepts signs and other digits, and a
 * {@code String} may hold lone surrogates.
 */
final class Texts {
    private Texts() {}

    static String base64(byte[] bytes) {
        return Base64.getUrlEncoder().withoutPadding().encodeToString(bytes);
    }

    /** Decodes base64url without padding. Returns null for any other text. */
    static byte[] fromBase64(String text) {
        for (int i = 0; i < text.length(); i++) {
            if (!isBase64(text.charAt(i))) {
                return null;
            }
        }
        if (text.length() % 4 == 1) {
            return null;
        }
        byte[] bytes = Base64.getUrlDecoder().decode(text);
        return base64(bytes).equals(text) ? bytes : null; // the decoder ignores unused bits
    }

    private static boolean isBase64(char c) {
        return isAlphanumeric(c) || c == '-' || c == '_';
    }

    static boolean isAlphanumeric(char c) {
        return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9';
    }

    /** Reports whether a text is the hash of 16 bytes: 22 characters of base64url. */
    static boolean isHash(String text) {
        return text.length() == 22 && fromBase64(text) != null;
    }

    /** Returns the number in lower-case hexadecimal digits, or -1 for any other text. */
    static long hex(String digits) {
        if (digits.isEmpty() || digits.length() > 15) {
            return -1;
        }
        long n = 0;
        for (int i = 0; i < digits.length(); i++) {
            char c = digits.charAt(i);
            int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
            if (digit < 0) {
                return -1;
            }
            n = n << 4 | digit;
        }
        return n;
    }

    /** Decodes UTF-8. Returns null if the bytes are not UTF-8. */
    static String utf8(byte[] bytes) {
        try {
            return StandardCharsets.UTF_8.newDecoder()
                .onMalformedInput(CodingErrorAction.REPORT)
                .onUnmappableCharacter(CodingErrorAction.REPORT)
                .decode(ByteBuffer.wrap(bytes)).toString();
        } catch (CharacterCodingException e) {
            return null;
        }
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /**
     * Reports whether a text has a surrogate without its other half, so that it has no UTF-8 form.
     */
    static boolean hasLoneSurrogate(String text) {
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (Character.isHighSurrogate(c) && i + 1 < text.length() && Character.isLowSurrogate(text.charAt(i + 1))) {
                i++;
            } else if (Character.isSurrogate(c)) {
                return true;
            }
        }
        return false;
    }

    /** Replaces lone surrogates by U+FFFD. */
    static String withoutLoneSurrogates(String text) {
        if (!hasLoneSurrogate(text)) {
            return text;
        }
        StringBuilder out = new StringBuilder(text.length());
        text.codePoints().forEach(c -> out.appendCodePoint(c >= 0xd800 && c <= 0xdfff ? 0xfffd : c));
        return out.toString();
    }

    /** Returns the beginning of a text: whole characters of at most so many bytes of UTF-8. */
    static String cut(String text, int most) {
        text = withoutLoneSurrogates(text);
        int bytes = 0;
        for (int i = 0; i < text.length();) {
            int c = text.codePointAt(i);
            bytes += c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
            if (bytes > most) {
                return text.substring(0, i);
            }
            i += Character.charCount(c);
        }
        return text;
    }

    /** Returns the canonical integer of 64 bits in a text, or null for any other text. */
    static Long integer(String text) {
        int digits = text.startsWith("-") ? 1 : 0;
        if (text.length() == digits || text.length() > digits + 19) {
            return null;
        }
        for (int i = digits; i < text.length(); i++) {
            if (text.charAt(i) < '0' || text.charAt(i) > '9') {
                return null;
            }
        }
        if (text.charAt(digits) == '0' && text.length() > 1) {
            return null; // leading zeros, and -0
        }
        try {
            return Long.parseLong(text);
        } catch (NumberFormatException e) {
            return null; // out of range
        }
    }
}
