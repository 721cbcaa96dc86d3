package io.github.coatcheckgo.session;

import java.util.Arrays;
import java.util.List;
import java.util.SortedMap;
import java.util.TreeMap;

/** One operation of a change, as apply.lua takes it. */
record Op(String kind, String key, byte[] a, byte[] b) {
    static final int MOST = 4096;
    private static final int MAX_FIELDS = 1024;
    private static final byte[] NONE = {};

    static Op set(String key, byte[] value) {
        return new Op("set", key, value, NONE);
    }

    static Op add(String key, long delta) {
        return new Op("add", key, Texts.bytes(Long.toString(delta)), NONE);
    }

    /** Adds, unless the sum would leave the range. */
    static Op addWithin(String key, long delta, long least, long most) {
        return new Op("add", key, Texts.bytes(Long.toString(delta)), Texts.bytes(least + " " + most));
    }

    /** Refuses the change if it gives the map a new entry, and more entries than most. */
    static Op limit(String field, int most) {
        if (most < 0) {
            throw fail(SessionException.Kind.INVALID, "a map has no limit of " + most + " entries");
        }
        return new Op("limit", field, Texts.bytes(Integer.toString(most)), NONE);
    }

    /** An operation without arguments: unset, unset-entries, clear or take. */
    static Op of(String kind, String key) {
        return new Op(kind, key, NONE, NONE);
    }

    /** Replaces the old value by the new one. Null stands for no value. */
    static Op swap(String key, byte[] old, byte[] value) {
        return new Op("swap", key, present(old), present(value));
    }

    static byte[] present(byte[] value) {
        if (value == null) {
            return NONE;
        }
        byte[] all = new byte[value.length + 1];
        all[0] = '=';
        System.arraycopy(value, 0, all, 1, value.length);
        return all;
    }

    /** Returns the new value of a swap; null: none. */
    byte[] swapped() {
        return b.length == 0 ? null : Arrays.copyOfRange(b, 1, b.length);
    }

    /** Returns the operation with its value sealed again, for another id. */
    Op resealed(Keys keys, String from, String to) {
        byte[] value = kind.equals("set") ? a : kind.equals("swap") ? swapped() : null;
        if (value == null || !Keys.isSealed(value)) {
            return this;
        }
        byte[] sealed = keys.resealed(key, value, from, to);
        return kind.equals("set") ? set(key, sealed) : new Op(kind, key, a, present(sealed));
    }

    void arguments(List<Object> args) {
        args.addAll(List.of(kind, key, a, b));
    }

    private static SessionException fail(SessionException.Kind kind, String why) {
        return new SessionException(kind, why);
    }

    /**
     * Makes the operation on a copy of the fields: set, add, unset, unset-entries or clear. limit
     * changes nothing.
     */
    void apply(TreeMap<String, byte[]> fields, int maxSize) {
        switch (kind) {
            case "limit" -> { }
            case "clear" -> fields.clear();
            case "unset" -> fields.remove(key);
            case "unset-entries" -> entries(fields, key).clear();
            case "add" -> put(fields, maxSize, sum(fields.get(key)));
            default -> put(fields, maxSize, a);
        }
    }

    /**
     * Reports whether the fields of a new session, with this operation made, are over its limit. A
     * count that was there and out of its range may come closer.
     */
    boolean exceeds(byte[] old, TreeMap<String, byte[]> fields) {
        if (kind.equals("limit")) {
            return entries(fields, key).size() > Integer.parseInt(Texts.utf8(a));
        }
        if (!kind.equals("add") || b.length == 0) {
            return false;
        }
        long sum = integer(fields.get(key));
        String[] range = Texts.utf8(b).split(" ");
        long delta = Long.parseLong(Texts.utf8(a));
        return sum < Long.parseLong(range[0]) && (old == null || delta <= 0)
            || sum > Long.parseLong(range[1]) && (old == null || delta >= 0);
    }

    static SortedMap<String, byte[]> entries(TreeMap<String, byte[]> fields, String field) {
        return fields.subMap(field + ":", field + ";"); // ";" follows ":"
    }

    private byte[] sum(byte[] old) {
        Long before = old == null ? Long.valueOf(0) : integer(old);
        if (before == null) {
            throw fail(SessionException.Kind.INVALID, "add: the value of " + key + " is not an integer");
        }
        try {
            return Texts.bytes(Long.toString(Math.addExact(before, Long.parseLong(new String(a, java.nio.charset.StandardCharsets.US_ASCII)))));
        } catch (ArithmeticException e) {
            throw fail(SessionException.Kind.INVALID, "add: the sum of " + key + " does not fit in 64 bits");
        }
    }

    static Long integer(byte[] value) {
        String text = Texts.utf8(value);
        return text == null ? null : Texts.integer(text);
    }

    private void put(TreeMap<String, byte[]> fields, int maxSize, byte[] value) {
        byte[] old = fields.put(key, value);
        int grown = value.length - (old == null ? -Texts.bytes(key).length : old.length);
        if (old == null && fields.size() > MAX_FIELDS) {
            throw fail(SessionException.Kind.TOO_LARGE, "more than 1024 fields and entries");
        }
        if (grown > 0 && size(fields) > maxSize) {
            throw fail(SessionException.Kind.TOO_LARGE, "set " + key + ": more than " + maxSize + " bytes");
        }
    }

    static long size(TreeMap<String, byte[]> fields) {
        long n = 0;
        for (var e : fields.entrySet()) {
            n += Texts.bytes(e.getKey()).length + e.getValue().length;
        }
        return n;
    }
}
