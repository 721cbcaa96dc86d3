package io.github.coatcheckgo.session;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Reads test data of the folder "format", and compares texts that have times in them. */
final class Vectors {
    private Vectors() {}

    private static final long TOLERANCE = 5_000;
    private static final Pattern PLACE = Pattern.compile("<([+-]\\d+)>|\\[([+-]\\d+)\\]");

    static Object read(String file) {
        for (Path p = Path.of("").toAbsolutePath(); p != null; p = p.getParent()) {
            Path found = p.resolve("format").resolve(file);
            if (Files.exists(found)) {
                try {
                    return Json.parse(Files.readString(found));
                } catch (IOException e) {
                    throw new UncheckedIOException(e);
                }
            }
        }
        throw new IllegalStateException("no " + file + " in the folder \"format\"");
    }

    @SuppressWarnings("unchecked")
    static List<Map<String, Object>> cases(Object list) {
        return (List<Map<String, Object>>) list;
    }

    @SuppressWarnings("unchecked")
    static Map<String, Object> object(Object o) {
        return (Map<String, Object>) o;
    }

    @SuppressWarnings("unchecked")
    static List<Object> cast(Object o) {
        return (List<Object>) o;
    }

    static String text(Map<String, Object> c, String name) {
        return (String) c.get(name);
    }

    static long number(Map<String, Object> c, String name) {
        return c.get(name) == null ? 0 : (Long) c.get(name);
    }

    static byte[] hex(Map<String, Object> c, String name) {
        return HexFormat.of().parseHex(text(c, name));
    }

    static Keys keys(Map<String, Object> c) {
        return new Keys(c.containsKey("key") ? List.of(hex(c, "key")) : List.of(), null);
    }

    static Map<String, byte[]> hash(Object o) {
        Map<String, byte[]> hash = new LinkedHashMap<>();
        object(o).forEach((name, value) -> hash.put(
            new String(Texts.bytes(name), StandardCharsets.ISO_8859_1), Texts.bytes((String) value)));
        return hash;
    }

    /** Fills in the placeholders of a text. */
    static String fill(String text, long now) {
        return PLACE.matcher(text).replaceAll(m -> m.group(1) != null ? String.format("%012x", now + Long.parseLong(m.group(1)))
            : Long.toString(now + Long.parseLong(m.group(2))));
    }

    /** Reports whether a text is the expected one, but for some seconds in its times. */
    static boolean matches(String expected, String actual, long now) {
        Matcher m = PLACE.matcher(expected);
        int from = 0;
        int at = 0;
        while (m.find()) {
            String literal = expected.substring(from, m.start());
            if (!actual.startsWith(literal, at)) {
                return false;
            }
            at += literal.length();
            boolean hex = m.group(1) != null;
            long want = now + Long.parseLong(m.group(hex ? 1 : 2));
            int end = hex ? Math.min(actual.length(), at + 12) : at + digits(actual, at);
            String digits = actual.substring(at, end);
            long got = digits.isEmpty() ? -1 : hex ? Texts.hex(digits) : Long.parseLong(digits);
            if (Math.abs(got - want) > TOLERANCE) {
                return false;
            }
            at = end;
            from = m.end();
        }
        return actual.substring(at).equals(expected.substring(from));
    }

    private static int digits(String s, int from) {
        int n = 0;
        while (from + n < s.length() && Character.isDigit(s.charAt(from + n))) {
            n++;
        }
        return n;
    }

    /**
     * Reports whether a reply is the expected one. A list is a list; "TIME" is the server's time.
     */
    static boolean replies(Object expected, Object actual, long now) {
        if (expected instanceof List<?> list) {
            if (!(actual instanceof List<?> got) || got.size() != list.size()) {
                return false;
            }
            for (int i = 0; i < list.size(); i++) {
                if (!replies(list.get(i), got.get(i), now)) {
                    return false;
                }
            }
            return true;
        }
        if ("TIME".equals(expected)) {
            return actual instanceof Long time && Math.abs(time - now) < TOLERANCE;
        }
        if (expected instanceof String text && actual instanceof Long n) {
            return matches(text, n.toString(), now);
        }
        if (expected instanceof String text && actual instanceof String got) {
            return matches(text, got, now);
        }
        return expected == null ? actual == null : expected.equals(actual);
    }
}
