<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * The names of the keys in Redis.
 *
 * @internal
 */
final class Keyspace
{
    public function __construct(private readonly string $namespace)
    {
    }

    public function session(string $handle): string
    {
        return "$this->namespace:{" . \substr($handle, 0, 4) . '}:s:' . \substr($handle, 5);
    }

    /** The sessions of a user. */
    public function index(string $owner): string
    {
        return "$this->namespace:{" . self::bucketOf($owner) . "}:u:$owner";
    }

    /** The data of a user. */
    public function userData(string $owner): string
    {
        return "$this->namespace:{" . self::bucketOf($owner) . "}:d:$owner";
    }

    public function revocations(string $bucket): string
    {
        return "$this->namespace:{{$bucket}}:n";
    }

    /** When everybody was revoked. */
    public function revoked(): string
    {
        return "$this->namespace:revoked";
    }

    /** A key that replicate() of UserSessions writes. */
    public function replicated(string $bucket): string
    {
        return "$this->namespace:{{$bucket}}:w";
    }

    /** Matches the keys of all sessions, for SCAN. */
    public function allSessions(): string
    {
        return "$this->namespace:{*}:s:*";
    }

    public static function bucketOf(string $owner): string
    {
        return \bin2hex(\substr((string) Text::decode($owner), 0, 2));
    }
}
