package io.github.coatcheckgo.session;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.Function;

/**
 * A field with many values under keys. Each entry is a value of its own: requests that change
 * different entries do not touch each other's. A key is any text of at most 256 bytes of UTF-8.
 *
 * @param <T> the type of the values
 */
public final class MapField<T> extends Field {
    private final Codec<T> codec;

    private MapField(String name, Codec<T> codec) {
        super(name);
        this.codec = codec;
    }

    /** Declares a field. Its name has 1 to 64 of a-z A-Z 0-9 . _ - */
    public static <T> MapField<T> of(String name, Codec<T> codec) {
        return new MapField<>(name, codec);
    }

    private String entry(String key) {
        return name + ":" + key;
    }

    /** Returns the value of an entry, or nothing if it is unset. */
    public Optional<T> get(Data d, String key) {
        byte[] value = d.value(entry(key));
        return value == null ? Optional.empty() : Optional.ofNullable(decode(codec, entry(key), value));
    }

    /** Reports whether an entry is stored. */
    public boolean isSet(Data d, String key) {
        return d.value(entry(key)) != null;
    }

    /** Returns all entries, ordered by key. */
    public Map<String, T> all(Data d) {
        Map<String, T> all = new LinkedHashMap<>();
        d.entries(name).forEach((key, value) -> all.put(key, decode(codec, entry(key), value)));
        return all;
    }

    /** Sets the value of an entry. The commit stores it. */
    public void set(Data d, String key, T value) {
        d.set(entry(key), () -> encode(codec, entry(key), value));
    }

    /**
     * Sets the value of an entry, unless the entry is new and the map would have more than this
     * many. It commits the request's other changes in the same step; new entries among them count,
     * too. The store decides, so the limit holds for concurrent requests. An entry that is there
     * can always be set.
     *
     * @throws SessionException LIMIT: nothing was stored, and the other changes are still pending;
     *     those of {@link Data#commit}
     */
    public void setWithin(Data d, String key, T value, int entries) {
        d.atomic.bounded(entry(key), () -> List.of(Op.set(entry(key), encode(codec, entry(key), value)), Op.limit(name, entries)));
    }

    /** Removes an entry. */
    public void delete(Data d, String key) {
        d.change(Op.of("unset", entry(key)));
    }

    /** Removes all entries. */
    public void clear(Data d) {
        d.change(Op.of("unset-entries", name));
    }

    /** Removes the value of an entry and returns it, to one request only. It commits. */
    public Optional<T> take(Data d, String key) {
        byte[] value = d.atomic.take(entry(key));
        return value == null ? Optional.empty() : Optional.ofNullable(decode(codec, entry(key), value));
    }

    /** Replaces the value of an entry, as {@link Value#update} does. */
    public T update(Data d, String key, Function<Optional<T>, T> f) {
        return d.atomic.update(entry(key), present -> {
            T next = f.apply(present == null ? Optional.empty() : Optional.ofNullable(decode(codec, entry(key), present)));
            return new AtomicChanges.Updated<>(next, encode(codec, entry(key), next));
        });
    }
}
