# Keeps the programs of the runtime system (erts-VERSION/bin of a release) from one build to the next:
# mix copies the same megabytes in each build.

defmodule Gatling.Erts do
  @moduledoc false

  alias Gatling.Ebin

  @noted "noted"

  # As `Mix.Release.copy_erts/1`, which is `mix`. While the host's programs are as they were, what mix
  # has made of them is linked. The links are never written to: a project that may change them in the
  # release leaves everything to mix.
  def copy(release, mix) do
    with %{erts: kept} when is_binary(kept) <- Ebin.places(),
         false <- Ebin.changed_later?(release),
         source when source != nil <- release.erts_source,
         wanted = {to_string(source), release.erts_version, Ebin.listed("#{source}/bin")},
         # none that has just changed and may change again without a trace
         {_, _, [_ | _] = files} <- wanted,
         true <- Enum.all?(files, fn {_, _, identity} -> identity != nil end) do
      target = Path.join(release.path, "erts-#{release.erts_version}/bin")
      kept = Path.join(kept, "erts-#{release.erts_version}")
      linked?(wanted, kept, target) or made(release, mix, wanted, kept, target)
    else
      _ -> mix.(release)
    end
  end

  defp linked?(wanted, kept, target) do
    with {:ok, binary} <- File.read(Path.join(kept, @noted)),
         {^wanted, [_ | _] = files} <- :erlang.binary_to_term(binary) do
      File.mkdir_p!(target)

      same? = fn {file, contents} ->
        link = Path.join(target, file)
        :file.make_link(Path.join(kept, file), link) == :ok and Ebin.contents(link) == contents
      end

      Enum.all?(files, same?) or (File.rm_rf!(target) && false)
    else
      _ -> false
    end
  rescue
    # not a term: the disk was full, or the machine went down
    ArgumentError -> false
  end

  # Kept as a whole, or not at all.
  defp made(release, mix, wanted, kept, target) do
    made = mix.(release)
    making = "#{kept}.#{System.pid()}"
    File.rm_rf!(making)

    with true <- made,
         {:ok, files} <- File.ls(target),
         :ok <- File.mkdir_p(making),
         true <-
           Enum.all?(files, &match?({:ok, %{type: :regular}}, File.lstat(Path.join(target, &1)))),
         link = &:file.make_link(Path.join(target, &1), Path.join(making, &1)),
         true <- Enum.all?(files, &(link.(&1) == :ok)),
         contents = for(file <- files, do: {file, Ebin.contents(Path.join(target, file))}),
         note = :erlang.term_to_binary({wanted, contents}),
         :ok <- File.write(Path.join(making, @noted), note) do
      File.rm_rf!(kept)
      File.rename(making, kept)
    end

    File.rm_rf!(making)
    made
  end
end
