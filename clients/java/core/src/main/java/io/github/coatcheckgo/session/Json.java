package io.github.coatcheckgo.session;

import java.math.BigInteger;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Reads and writes JSON (RFC 8259) without a library. The values are null, Boolean, Long,
 * BigInteger, Double, String, {@code List<Object>} and {@code Map<String, Object>}.
 *
 * <ul>
 *   <li>{@code 1} is a Long, and {@code 1.0} and {@code 1e3} are Doubles: they are not equal.
 *   <li>An integer beyond 64 bits is a BigInteger: no digit is lost.
 *   <li>Half of a surrogate pair in an escape becomes U+FFFD.
 *   <li>NaN, infinity and a String with half of a surrogate pair have no JSON form: writing them
 *     fails.
 *   <li>It makes no other objects, whatever the text says.
 * </ul>
 */
public final class Json {
    private static final int MAX_DEPTH = 500;

    private final String text;
    private int at;

    private Json(String text) {
        this.text = text;
    }

    /**
     * Reads one JSON value.
     *
     * @throws SessionException DECODE if the text is not JSON
     */
    public static Object parse(String text) {
        Json json = new Json(text);
        Object value = json.value(0);
        json.space();
        if (json.at < text.length()) {
            throw json.error("text after the value");
        }
        return value;
    }

    private SessionException error(String why) {
        return new SessionException(SessionException.Kind.DECODE, "not JSON, at character " + at + ": " + why);
    }

    private void space() {
        while (at < text.length() && " \t\n\r".indexOf(text.charAt(at)) >= 0) {
            at++;
        }
    }

    private Object value(int depth) {
        space();
        if (at >= text.length()) {
            throw error("a value is missing");
        }
        if (depth > MAX_DEPTH) {
            throw error("nested too deeply");
        }
        char c = text.charAt(at);
        switch (c) {
            case '{':
                return object(depth);
            case '[':
                return array(depth);
            case '"':
                return string();
            default:
        }
        for (Map.Entry<String, Object> word : WORDS) {
            if (text.startsWith(word.getKey(), at)) {
                at += word.getKey().length();
                return word.getValue();
            }
        }
        return number();
    }

    private static final List<Map.Entry<String, Object>> WORDS = new ArrayList<>();

    static {
        WORDS.add(new java.util.AbstractMap.SimpleEntry<>("null", null));
        WORDS.add(Map.entry("true", true));
        WORDS.add(Map.entry("false", false));
    }

    private boolean next(char c) {
        space();
        if (at < text.length() && text.charAt(at) == c) {
            at++;
            return true;
        }
        return false;
    }

    private Map<String, Object> object(int depth) {
        Map<String, Object> object = new LinkedHashMap<>();
        at++;
        if (next('}')) {
            return object;
        }
        do {
            space();
            if (at >= text.length() || text.charAt(at) != '"') {
                throw error("a name is missing");
            }
            String name = string();
            if (!next(':')) {
                throw error("a colon is missing");
            }
            object.put(name, value(depth + 1));
        } while (next(','));
        if (!next('}')) {
            throw error("a brace is missing");
        }
        return object;
    }

    private List<Object> array(int depth) {
        List<Object> array = new ArrayList<>();
        at++;
        if (next(']')) {
            return array;
        }
        do {
            array.add(value(depth + 1));
        } while (next(','));
        if (!next(']')) {
            throw error("a bracket is missing");
        }
        return array;
    }

    private String string() {
        StringBuilder out = new StringBuilder();
        for (at++; at < text.length(); at++) {
            char c = text.charAt(at);
            if (c == '"') {
                at++;
                return Texts.withoutLoneSurrogates(out.toString());
            } else if (c < 0x20) {
                throw error("a control character");
            } else if (c == '\\') {
                out.append(escape());
            } else {
                out.append(c);
            }
        }
        throw error("a quotation mark is missing");
    }

    private char escape() {
        if (++at >= text.length()) {
            throw error("an escape is not complete");
        }
        int simple = "\"\\/bfnrt".indexOf(text.charAt(at));
        if (simple >= 0) {
            return "\"\\/\b\f\n\r\t".charAt(simple);
        }
        if (text.charAt(at) != 'u' || at + 4 >= text.length()) {
            throw error("an unknown escape");
        }
        int code = 0;
        for (int i = 0; i < 4; i++) {
            char c = text.charAt(++at);
            // It takes other scripts' digits, too
            int digit = c < 0x80 ? Character.digit(c, 16) : -1;
            if (digit < 0) {
                throw error("an escape that is not hexadecimal");
            }
            code = code << 4 | digit;
        }
        return (char) code;
    }

    private Object number() {
        int from = at;
        if (at < text.length() && text.charAt(at) == '-') {
            at++;
        }
        int first = at;
        digits();
        if (at - first > 1 && text.charAt(first) == '0') {
            throw error("a number with a leading zero");
        }
        boolean integer = true;
        if (at < text.length() && text.charAt(at) == '.') {
            integer = false;
            at++;
            digits();
        }
        if (at < text.length() && (text.charAt(at) | 0x20) == 'e') {
            integer = false;
            at++;
            if (at < text.length() && (text.charAt(at) == '+' || text.charAt(at) == '-')) {
                at++;
            }
            digits();
        }
        String digits = text.substring(from, at);
        if (!integer) {
            double d = Double.parseDouble(digits);
            if (Double.isInfinite(d)) {
                throw error("a number out of the range of a double");
            }
            return d;
        }
        if (digits.length() < 19) {
            return Long.parseLong(digits);
        }
        BigInteger big = new BigInteger(digits);
        return big.bitLength() < 64 ? (Object) big.longValue() : big;
    }

    private void digits() {
        int from = at;
        while (at < text.length() && text.charAt(at) >= '0' && text.charAt(at) <= '9') {
            at++;
        }
        if (at == from) {
            throw error("no value begins here");
        }
    }

    /**
     * Writes a value as JSON. It takes null, Boolean, Byte, Short, Integer, Long, BigInteger,
     * Float, Double, String, List and Map with String keys. It takes nothing else.
     *
     * @throws SessionException INVALID for another type, and for a value without a JSON form
     */
    public static String write(Object value) {
        StringBuilder out = new StringBuilder();
        write(out, value, 0, false);
        return out.toString();
    }

    /** Writes a value as ASCII: other characters become escapes. */
    static String writeAscii(Object value) {
        StringBuilder out = new StringBuilder();
        write(out, value, 0, true);
        return out.toString();
    }

    private static SessionException invalid(String why) {
        return new SessionException(SessionException.Kind.INVALID, why);
    }

    private static void write(StringBuilder out, Object value, int depth, boolean ascii) {
        if (depth > MAX_DEPTH) {
            throw invalid("a value that is nested too deeply, or contains itself");
        }
        if (value instanceof String text) {
            writeString(out, text, ascii);
        } else if (value instanceof Double || value instanceof Float) {
            if (!Double.isFinite(((Number) value).doubleValue())) {
                throw invalid(value + " has no JSON form");
            }
            out.append(value);
        } else if (value == null || value instanceof Boolean || value instanceof Long || value instanceof Integer
            || value instanceof Short || value instanceof Byte || value instanceof BigInteger) {
            out.append(value);
        } else if (value instanceof List<?> list) {
            String separator = "[";
            for (Object e : list) {
                out.append(separator);
                write(out, e, depth + 1, ascii);
                separator = ",";
            }
            out.append(list.isEmpty() ? "[]" : "]");
        } else if (value instanceof Map<?, ?> map) {
            String separator = "{";
            for (Map.Entry<?, ?> e : map.entrySet()) {
                if (!(e.getKey() instanceof String name)) {
                    throw invalid("a map with a key that is not a String");
                }
                out.append(separator);
                writeString(out, name, ascii);
                out.append(':');
                write(out, e.getValue(), depth + 1, ascii);
                separator = ",";
            }
            out.append(map.isEmpty() ? "{}" : "}");
        } else {
            throw invalid("a value of " + value.getClass().getName() + ": it needs a Codec");
        }
    }

    private static void writeString(StringBuilder out, String text, boolean ascii) {
        if (Texts.hasLoneSurrogate(text)) {
            throw invalid("a text with half of a surrogate pair is not Unicode");
        }
        out.append('"');
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < 0x20 || ascii && c > 0x7e) {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        out.append('"');
    }
}
