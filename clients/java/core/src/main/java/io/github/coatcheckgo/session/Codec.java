package io.github.coatcheckgo.session;

import java.util.function.Function;

/**
 * Converts the values of a field to and from JSON. Programs in other languages read the JSON, so it
 * must not depend on Java: no class names, and never Java's serialization.
 *
 * <p>With Jackson:
 * {@code Codec.of(mapper::writeValueAsString, json -> mapper.readValue(json, Cart.class))}.
 *
 * @param <T> the type of the values
 */
public interface Codec<T> {
    /**
     * Returns the JSON of a value. What it throws fails the change as INVALID.
     *
     * @throws Exception if the value has no JSON form
     */
    String encode(T value) throws Exception;

    /**
     * Returns the value of a JSON text. What it throws fails the read as DECODE.
     *
     * @throws Exception if the JSON is not of this type
     */
    T decode(String json) throws Exception;

    /** A step of a codec. */
    @FunctionalInterface
    interface Step<A, B> {
        B apply(A from) throws Exception;
    }

    /** Makes a codec of two functions. */
    static <T> Codec<T> of(Step<T, String> encode, Step<String, T> decode) {
        return new Codec<>() {
            @Override
            public String encode(T value) throws Exception {
                return encode.apply(value);
            }

            @Override
            public T decode(String json) throws Exception {
                return decode.apply(json);
            }
        };
    }

    /** Texts. */
    Codec<String> STRING = typed(String.class);
    /** Integers of 64 bits. {@code 1.0} and {@code 1e3} are no integers: they fail as DECODE. */
    Codec<Long> LONG = typed(Long.class);
    /** Integers of 32 bits. A larger one fails as DECODE; it is never cut. */
    Codec<Integer> INTEGER = of(Json::write, json -> Math.toIntExact(LONG.decode(json)));
    /** Numbers. An integer is one, too. */
    Codec<Double> DOUBLE = of(Json::write, json -> ((Number) Json.parse(json)).doubleValue());
    /** Truth values. */
    Codec<Boolean> BOOLEAN = typed(Boolean.class);
    /** Any JSON, as {@link Json#parse} returns it. */
    Codec<Object> JSON = of(Json::write, Json::parse);

    private static <T> Codec<T> typed(Class<T> type) {
        return of(Json::write, json -> {
            Object value = Json.parse(json);
            if (value == null) {
                throw new IllegalArgumentException("null is no " + type.getSimpleName());
            }
            return type.cast(value);
        });
    }

    /** Converts the values of another codec. */
    default <U> Codec<U> map(Function<U, T> to, Function<T, U> from) {
        return of(value -> encode(to.apply(value)), json -> from.apply(decode(json)));
    }
}
