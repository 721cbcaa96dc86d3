<?php

declare(strict_types=1);

namespace Coatcheck\Session\Tests;

/** Waits for what certainly happens, however slow the machine is. */
final class Await
{
    private const SECONDS = 60;

    /**
     * Returns when the function returns true. It throws if that does not happen.
     *
     * @param \Closure(): bool $happened
     */
    public static function that(string $what, \Closure $happened): void
    {
        $until = hrtime(true) + self::SECONDS * 1_000_000_000;
        while (!$happened()) {
            if (hrtime(true) > $until) {
                throw new \RuntimeException('after ' . self::SECONDS . " s still not: $what");
            }
            usleep(5_000);
        }
    }
}
