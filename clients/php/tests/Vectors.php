<?php

declare(strict_types=1);

namespace Coatcheck\Session\Tests;

/** The files of format/vectors, and how many of them ran. */
final class Vectors
{
    /** Milliseconds in which no vector that a server runs changes its outcome. */
    public const MOMENT = 900;

    /** @var array<string, int> */
    private static array $counts = [];

    public static function all(string $name): array
    {
        $text = file_get_contents(dirname(__DIR__, 3) . "/format/vectors/$name.json");
        return json_decode($text, true, 64, JSON_THROW_ON_ERROR | JSON_BIGINT_AS_STRING);
    }

    public static function ran(string $name): void
    {
        self::$counts[$name] = (self::$counts[$name] ?? 0) + 1;
    }

    /** Prints what ran since the last report. */
    public static function report(): void
    {
        $text = implode(', ', array_map(fn (string $k, int $n): string => "$k $n", array_keys(self::$counts), self::$counts));
        fwrite(STDERR, "\nvectors: $text; in all " . array_sum(self::$counts) . "\n");
        self::$counts = [];
    }

    /**
     * Returns what the function observes. It gets the server's time, and runs a vector whose times
     * count from then. An observation that took longer than MOMENT says nothing, and is repeated
     * before anything is compared.
     *
     * @template T
     * @param \Closure(int): T $observe
     * @return T
     */
    public static function atOneMoment(RedisServer $server, \Closure $observe): mixed
    {
        for ($tries = 0; $tries < 100; $tries++) {
            $now = $server->time();
            $observed = $observe($now);
            if ($server->time() - $now <= self::MOMENT) {
                return $observed;
            }
        }
        throw new \RuntimeException('the machine never ran a vector in ' . self::MOMENT . ' ms');
    }
}
