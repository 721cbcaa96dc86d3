package io.github.coatcheckgo.spring;

import io.github.coatcheckgo.session.Codec;
import io.github.coatcheckgo.session.Json;
import java.util.HashMap;
import java.util.Map;

/**
 * Says how the attributes of a session become JSON. Without a codec of its own, an attribute takes
 * null, Boolean, Integer, Long, BigInteger, Double, String, List and Map. Java's serialization is
 * never used, and no class is named in the JSON.
 *
 * <p>JSON does not tell an Integer from a Long: an integer of 32 bits is read as an Integer. Give
 * an attribute that is a Long {@link Codec#LONG}.
 */
public final class Attributes {
    private static final Codec<Object> PLAIN = Codec.of(Json::write, json -> narrow(Json.parse(json)));

    private final Map<String, Codec<?>> codecs = new HashMap<>();

    /** Sets the codec of an attribute. */
    public Attributes with(String name, Codec<?> codec) {
        codecs.put(name, codec);
        return this;
    }

    /**
     * Sets the codec of the attributes in which Spring Security keeps its objects: the security
     * context, the saved request, and the last exception. See the README for one with Jackson.
     */
    public Attributes springSecurity(Codec<Object> codec) {
        return with("SPRING_SECURITY_CONTEXT", codec).with("SPRING_SECURITY_SAVED_REQUEST", codec)
            .with("SPRING_SECURITY_LAST_EXCEPTION", codec);
    }

    @SuppressWarnings("unchecked")
    Codec<Object> of(String name) {
        return (Codec<Object>) codecs.getOrDefault(name, PLAIN);
    }

    @SuppressWarnings("unchecked")
    private static Object narrow(Object value) {
        if (value instanceof Long n && n == n.intValue()) {
            return n.intValue();
        }
        if (value instanceof java.util.List<?> list) {
            ((java.util.List<Object>) list).replaceAll(Attributes::narrow);
        } else if (value instanceof Map<?, ?> map) {
            ((Map<String, Object>) map).replaceAll((k, v) -> narrow(v));
        }
        return value;
    }

    /** The names of attributes that are no names of fields are keys of this map. */
    static final String OTHERS = "spring";

    /**
     * Reports whether the attribute is a field of its own, which other languages read by this name.
     */
    static boolean isField(String name) {
        return name.matches("[a-zA-Z0-9._-]{1,64}\\z");
    }
}
