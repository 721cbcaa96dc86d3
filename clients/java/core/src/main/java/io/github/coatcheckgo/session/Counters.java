package io.github.coatcheckgo.session;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** A field with a count for each key, as in a cart. Concurrent additions add up. */
public final class Counters extends Field {
    private Counters(String name) {
        super(name);
    }

    /** Declares a field. Its name has 1 to 64 of a-z A-Z 0-9 . _ - */
    public static Counters of(String name) {
        return new Counters(name);
    }

    @Override
    boolean adds() {
        return true;
    }

    private String entry(String key) {
        return name + ":" + key;
    }

    /** Returns the count of a key as this request sees it. It is 0 if it is unset. */
    public long get(Data d, String key) {
        return count(entry(key), d.stored(entry(key)));
    }

    /** Returns all counts, ordered by key. */
    public Map<String, Long> all(Data d) {
        Map<String, Long> all = new LinkedHashMap<>();
        d.storedEntries(name).forEach((key, value) -> all.put(key, count(entry(key), value)));
        return all;
    }

    /**
     * Adds n to the count of a key. A sum that does not fit in 64 bits fails the commit as INVALID.
     */
    public void add(Data d, String key, long n) {
        d.change(Op.add(entry(key), n));
    }

    /**
     * Is {@link Counter#addWithin} for the count of a key. It is also refused with LIMIT if the key
     * is new and there would be more than this many keys. A key with a count of 0 is there until
     * {@link #delete}.
     */
    public long addWithin(Data d, String key, long n, long least, long most, int keys) {
        return Long.parseLong(d.atomic.bounded(entry(key),
            () -> List.of(Op.addWithin(entry(key), n, least, most), Op.limit(name, keys))));
    }

    /** Removes a key. */
    public void delete(Data d, String key) {
        d.change(Op.of("unset", entry(key)));
    }

    /** Removes all keys. */
    public void clear(Data d) {
        d.change(Op.of("unset-entries", name));
    }
}
