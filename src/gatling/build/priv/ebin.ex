# Keeps the stripped modules of a release from one build to the next: mix reads, strips and writes
# all of them in each build, though most are the same ones.

defmodule Gatling.Ebin do
  @moduledoc false

  @kept "gatling/ebin"
  @noted "noted"

  # A file that was changed less than this many seconds ago may change again without a trace: its
  # contents are compared.
  @settled 2

  # Functions of the module Mix.Release, each with the function that is called instead. It is given
  # the same arguments, and then the function of mix.
  @replaced %{
    {:copy_ebin, 3} => {__MODULE__, :copy},
    {:copy_erts, 1} => {Gatling.Erts, :copy},
    {:make_boot_script, 4} => {Gatling.BootScript, :make},
    {:random_cookie, 0} => {__MODULE__, :cookie}
  }

  # Compiles mix's own module with these functions replaced, into a directory that comes before mix
  # on the code path. A function that a mix does not have is left out. Nothing is done for a mix whose
  # code is not at hand: it works as it always does.
  def compile(directory) do
    with file when is_list(file) <- :code.which(Mix.Release),
         {:ok, {module, [abstract_code: {:raw_abstract_v1, forms}]}} <-
           :beam_lib.chunks(file, [:abstract_code]),
         {:ok, ^module, beam} <- :compile.forms(Enum.flat_map(forms, &replaced/1), []) do
      File.write!(Path.join(directory, "#{module}.beam"), beam)
    end
  end

  defp replaced({:function, line, name, arity, clauses})
       when is_map_key(@replaced, {name, arity}) do
    arguments = Enum.map(1..arity//1, &{:var, line, :"V#{&1}"})
    renamed = :"#{name}_of_mix"
    original = {:fun, line, {:function, renamed, arity}}
    {module, function} = @replaced[{name, arity}]
    other = {:remote, line, {:atom, line, module}, {:atom, line, function}}
    body = [{:call, line, other, arguments ++ [original]}]

    [
      {:function, line, name, arity, [{:clause, line, arguments, [], body}]},
      {:function, line, renamed, arity, clauses}
    ]
  end

  defp replaced(form), do: [form]

  # To be called before the release is assembled, with the project on top of mix's stack. The
  # project's own modules are left to mix if its callbacks may write to them in the release.
  def start(own_modules) do
    names = Map.keys(Mix.Project.apps_paths() || %{Mix.Project.config()[:app] => "."})
    host = [:code.root_dir(), Path.dirname(:code.lib_dir(:elixir))]
    # beside the modules of Gatling, which are those of one Elixir and OTP as well
    beside = :code.which(__MODULE__) |> Path.dirname()

    :persistent_term.put(__MODULE__, %{
      left: if(own_modules, do: [], else: Enum.map(names, &to_string/1)),
      project: Path.join([File.cwd!(), "_build", @kept]),
      host: Path.join(beside, "ebin"),
      erts: if(own_modules, do: beside),
      of_host: for(directory <- host, do: Path.expand(directory) <> "/")
    })
  end

  # The findings of `start`; nil before.
  def places, do: :persistent_term.get(__MODULE__, nil)

  # As `Mix.Release.random_cookie/0`, which is `mix`, without crypto: no other part of a build may
  # need it, and it takes long to load.
  def cookie(mix) do
    case File.open("/dev/urandom", [:raw], &:file.read(&1, 32)) do
      {:ok, {:ok, <<bytes::binary-size(32)>>}} -> Base.encode32(bytes)
      _ -> mix.()
    end
  end

  # As `Mix.Release.copy_ebin/3`, which is `mix`. A file that is as it was is linked from what was
  # kept of the build before. The links are never written to: steps and overlays of the project
  # that may change modules in the release leave everything to mix.
  def copy(release, source, target, mix) do
    kept = if changed_later?(release), do: nil, else: place(release, source)
    files = kept && listed(source)

    if files in [nil, []] do
      mix.(release, source, target)
    else
      wanted = {source, Keyword.get(release.options, :strip_beams, true)}
      known = read(kept, wanted)
      now = for file <- files, do: with_digest(file, known, source)
      File.mkdir_p!(target)
      {linked, others} = Enum.split_with(now, &linked?(&1, known, kept, target))
      made = others == [] or copied(others, linked == [], kept, {release, source, target}, mix)
      if made, do: keep(others, linked, known, {kept, wanted, target})
      made
    end
  end

  # Whether the project may change what is copied here.
  def changed_later?(release) do
    overlays = ["rel/overlays" | List.wrap(Keyword.get(release.options, :overlays, []))]

    Enum.any?(release.steps, &is_function/1) or
      Enum.any?(overlays, &(Path.wildcard(Path.join(&1, "{lib,erts}*")) != []))
  end

  # The directory for what is kept of an application: one for all projects if it is OTP's or
  # Elixir's.
  defp place(release, source) do
    with %{left: left} = places <- places(),
         "ebin" <- Path.basename(source),
         app = source |> Path.dirname() |> Path.basename() |> String.split("-") |> hd(),
         true <- app not in left and is_map_key(release.applications, String.to_atom(app)) do
      of_host = String.starts_with?(Path.expand(source), places.of_host)
      Path.join(if(of_host, do: places.host, else: places.project), app)
    else
      _ -> nil
    end
  end

  # A file's name, its mode, and the identity by which a change is seen without reading the file:
  # nil for one that has just changed.
  def listed(directory) do
    last = System.os_time(:second) - @settled

    with {:ok, files} <- :file.list_dir(directory),
         found = for(file <- Enum.sort(files), do: {file, info(Path.join(directory, file))}),
         true <- Enum.all?(found, &match?({_, {:ok, _}}, &1)) do
      for {file, {:ok, info}} <- found do
        settled = max(elem(info, 5), elem(info, 6)) < last
        {file, elem(info, 7), if(settled, do: identity(info))}
      end
    else
      _ -> nil
    end
  end

  defp info(path), do: :file.read_file_info(path, [:raw, time: :posix])

  # Size, inode, and the times of the last change of contents and of anything.
  defp identity(info), do: {elem(info, 1), elem(info, 11), elem(info, 5), elem(info, 6)}

  # Read before mix reads the file: what mix copies is then never older than its digest.
  defp with_digest({file, mode, identity}, known, source) do
    case known do
      %{^file => {^identity, ^mode, digest, _}} when identity != nil ->
        {file, identity, mode, digest}

      _ ->
        {file, identity, mode, digest(Path.join(source, file))}
    end
  end

  # (crypto may not be on the code path of the project)
  defp digest(path) do
    with {:ok, binary} <- File.read(path), do: :erlang.md5(binary)
  end

  # Compares the link with the note, not the kept file: another build may be replacing that.
  defp linked?({file, _, mode, digest}, known, kept, target) do
    link = Path.join(target, file)

    with %{^file => {_, ^mode, ^digest, contents}} when is_binary(digest) <- known,
         :ok <- :file.make_link(Path.join(kept, file), link) do
      same = contents(link) == contents
      if not same, do: File.rm!(link)
      same
    else
      _ -> false
    end
  end

  # Links change the time of a file's inode, not that of its contents.
  def contents(path) do
    with {:ok, info} <- info(path), do: {elem(info, 1), elem(info, 5)}
  end

  # Lets mix copy a directory that has the other files only.
  defp copied(_, true, _, {release, source, target}, mix), do: mix.(release, source, target)

  defp copied(others, false, kept, {release, source, target}, mix) do
    some = "#{kept}.#{System.pid()}"
    File.rm_rf!(some)
    File.mkdir_p!(some)

    for {file, _, _, _} <- others do
      File.ln_s!(Path.expand(Path.join(source, file)), Path.join(some, file))
    end

    try do
      mix.(release, some, target)
    after
      File.rm_rf!(some)
    end
  end

  # Links as well: a later release then has the very files of this one, and is not compared with it.
  # Without a note, nothing of what is kept is used: it is removed while files are replaced.
  defp keep(others, linked, known, {kept, wanted, target}) do
    note = Path.join(kept, @noted)
    if others != [], do: File.rm(note)
    replaced = Enum.map(others, &elem(&1, 0)) ++ (Map.keys(known) -- names(others, linked))

    link = fn {file, _, _, _} ->
      :file.make_link(Path.join(target, file), Path.join(kept, file)) == :ok
    end

    same =
      for {file, identity, mode, digest} <- linked, into: %{} do
        {file, {identity, mode, digest, elem(known[file], 3)}}
      end

    entries =
      for {file, identity, mode, digest} <- others, into: same do
        {file, {identity, mode, digest, contents(Path.join(target, file))}}
      end

    with true <- entries != known,
         :ok <- File.mkdir_p(kept),
         Enum.each(replaced, &File.rm(Path.join(kept, &1))),
         true <- Enum.all?(others, link),
         making = "#{note}.#{System.pid()}",
         :ok <- File.write(making, :erlang.term_to_binary({wanted, entries})) do
      File.rename(making, note)
    end
  end

  defp names(others, linked), do: for({file, _, _, _} <- others ++ linked, do: file)

  defp read(kept, wanted) do
    with {:ok, binary} <- File.read(Path.join(kept, @noted)),
         {^wanted, %{} = known} <- :erlang.binary_to_term(binary) do
      known
    else
      _ -> %{}
    end
  rescue
    # not a term: the disk was full, or the machine went down
    ArgumentError -> %{}
  end
end
